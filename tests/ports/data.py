"""The raw tables of the ports, made from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def write_spaceflights(folder: Path, rows: int = 2000, seed: int = 11) -> None:
    """Write companies.csv, shuttles.csv and reviews.csv: prices are text, flags are "t" and "f", values are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    companies = _companies(rng, rows // 4)
    shuttles = _shuttles(rng, rows, companies["id"])
    companies.to_csv(folder / "companies.csv", index=False)
    shuttles.to_csv(folder / "shuttles.csv", index=False)
    _reviews(rng, shuttles["id"]).to_csv(folder / "reviews.csv", index=False)


def _companies(rng: np.random.Generator, count: int) -> pd.DataFrame:
    rating = pd.Series(rng.integers(60, 101, count)).astype(str) + "%"
    return pd.DataFrame(
        {
            "id": rng.permutation(count) + 1,
            "company_rating": rating.mask(rng.random(count) < 0.05),
            "company_location": rng.choice(["Sao Tome", "Niue", "Malta", "Åland"], count),
            "iata_approved": rng.choice(["t", "f"], count),
        }
    )


def _shuttles(rng: np.random.Generator, count: int, company_ids: pd.Series) -> pd.DataFrame:
    engines = rng.integers(1, 9, count)
    capacity = engines + rng.integers(1, 7, count)
    cleared = rng.random(count) < 0.4
    price = 800 + 320 * engines + 150 * capacity + 240 * cleared + rng.normal(0, 900, count)
    return pd.DataFrame(
        {
            "id": rng.permutation(count) + 1,
            "shuttle_type": rng.choice(["Type V5", "Type F5", "Type V2"], count),
            "engines": engines,
            "passenger_capacity": capacity,
            "crew": np.where(rng.random(count) < 0.03, np.nan, rng.integers(0, 5, count)),
            "d_check_complete": rng.choice(["t", "f"], count),
            "moon_clearance_complete": np.where(cleared, "t", "f"),
            "price": [f"${max(value, 100):,.1f}" for value in price],
            "company_id": rng.choice(company_ids, count),
        }
    )


def _reviews(rng: np.random.Generator, shuttle_ids: pd.Series) -> pd.DataFrame:
    scores = rng.integers(40, 101, len(shuttle_ids)).astype(float)
    return pd.DataFrame(
        {
            "shuttle_id": rng.permutation(shuttle_ids),
            "review_scores_rating": np.where(rng.random(len(scores)) < 0.1, np.nan, scores),
            "number_of_reviews": rng.integers(0, 100, len(scores)),
        }
    )
