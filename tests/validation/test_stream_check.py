"""Promises of `StreamCheck`: validators of a stream that is larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pandera.pandas as pp
import polars as pl
import pytest

from airflow_zen.validation.base import Form, Validator
from airflow_zen.validation.checks import InRange
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.report import Check, ValidationReport
from airflow_zen.validation.stream_check import StreamCheck
from airflow_zen.validation.validators import run_validator

ROWS, SIZE = 900, 90


def batches() -> Iterator[pd.DataFrame]:
    """Yield 900 rows in batches, each of a category of its own."""
    for start in range(0, ROWS, SIZE):
        numbers = range(start, start + SIZE)
        yield pd.DataFrame({"n": numbers, "key": list(numbers), "name": pd.Categorical([f"batch{start}"] * SIZE)})


def report_of(validators: Any, parts: Iterator[Any], tmp_path: Path) -> ValidationReport:
    stream = StreamCheck(validators, tmp_path / "stream.arrows")
    assert sum(len(part) for part in stream.watch(parts))
    return stream.report()


def seen_by(table: Any) -> ValidationReport:
    """Report the rows that a function of a user gets, and the library that they are of."""
    kept = ",".join(map(str, list(table["n"])))
    return ValidationReport(type(table).__module__, statistics={"kept": kept}, checks=[Check(name="kept", passed=True)])


def test_pandera_checks_all_rows_of_a_stream(tmp_path: Path) -> None:
    """A schema finds in a stream what it finds in a table, duplicates across batches too, and samples nothing."""
    columns = {"n": pp.Column(int, pp.Check.lt(800)), "key": pp.Column(int, unique=True)}
    suite, whole = Pandera(pp.DataFrameSchema(columns)), pd.concat(list(batches()), ignore_index=True)
    whole.loc[899, "key"] = 0
    found = report_of([suite], (whole.iloc[start : start + SIZE] for start in range(0, ROWS, SIZE)), tmp_path)
    expected = run_validator(suite, whole)
    assert found.failures == expected.failures
    assert {check.title: check.failing for check in found.failures} == {"less_than(n)": 100, "unique(key)": 2}
    assert (found.rows, found.sampled) == (ROWS, None)


@dataclass(frozen=True)
class Mean(Validator):
    """Reports the mean of the rows that it gets, in memory."""

    form: ClassVar[Form] = "pandas"

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        names = set(table["name"])
        return ValidationReport("mean", [Check(name="mean", passed=len(names) > 5, observed=str(table["n"].tolist()))])


def test_others_get_a_sample_that_is_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs a table in memory gets random rows of all batches, in their order, and the report says how many."""
    monkeypatch.setattr("airflow_zen.validation.validators.DEFAULT_SAMPLE", 100)
    reports = [report_of([seen_by, Mean(), InRange("n", max=898)], batches(), tmp_path) for _ in range(2)]
    assert reports[0] == reports[1]
    assert (reports[0].rows, reports[0].sampled) == (ROWS, 100)
    (kept,) = [value for name, value in reports[0].statistics.items() if name.endswith("kept")]
    numbers = [int(text) for text in kept.split(",")]
    assert numbers == sorted(set(numbers))
    assert (len(numbers), min(numbers) < SIZE, max(numbers) > ROWS - SIZE) == (100, True, True)
    assert reports[0].check("mean").passed
    assert reports[0].check("mean").observed.startswith(str(numbers)[:50])
    assert reports[0].check("in_range").failing == 1


def test_function_gets_a_table_of_the_library_of_the_batches(tmp_path: Path) -> None:
    """A function of a user gets a frame of Polars for batches of Polars, and one of pandas for pandas."""
    assert "pandas" in report_of([seen_by], batches(), tmp_path).validator
    assert "polars" in report_of([seen_by], map(pl.from_pandas, batches()), tmp_path).validator


def test_batches_without_a_common_schema_fail(tmp_path: Path) -> None:
    """A batch whose values are no values of the first batch's types is a failed check in words."""
    parts = [pd.DataFrame({"n": [1]}), pd.DataFrame({"n": ["late"]})]
    (check,) = report_of([seen_by], iter(parts), tmp_path).failures
    assert (check.name, "No common schema" in check.message) == ("is_table", True)
