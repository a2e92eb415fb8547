"""Promises of `run_validator`: what every validator gets from us, whatever its library does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.base import Form, Validator
from airflow_zen.validation.checks import InRange, NoOverlap, NotNull, RowCount
from airflow_zen.validation.evidently import DataDriftPreset, Evidently
from airflow_zen.validation.report import Check, ValidationReport
from airflow_zen.validation.validators import as_validator, column_checks, run_validator, sampled_rows

FRAME = pd.DataFrame({"delay": [1.0, np.nan, 700.0], "carrier": ["AA", "UA", None]})


@dataclass(frozen=True)
class Recorded(Validator):
    """Reports what it was given."""

    seen: list[Any]
    form: ClassVar[Form] = "pandas"

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        self.seen.append((table, reference))
        return ValidationReport("recorded", [Check(name="seen", passed=True)])


@dataclass(frozen=True)
class RecordedPolars(Recorded):
    form: ClassVar[Form] = "polars"


@dataclass(frozen=True)
class RecordedArrow(Recorded):
    form: ClassVar[Form] = "arrow"


@dataclass(frozen=True)
class Raising(Validator):
    form: ClassVar[Form] = "pandas"

    def columns(self) -> Iterable[str]:
        return ["delay", "gone"]

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        raise KeyError("gone")


TABLES = {
    "pandas": FRAME,
    "polars": pl.from_pandas(FRAME),
    "lazy": pl.from_pandas(FRAME).lazy(),
    "arrow": pa.Table.from_pandas(FRAME),
    "batch": pa.RecordBatch.from_pandas(FRAME),
    "dataset": ds.dataset(pa.Table.from_pandas(FRAME)),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
@pytest.mark.parametrize(
    ("cls", "kind"), [(Recorded, pd.DataFrame), (RecordedPolars, pl.DataFrame), (RecordedArrow, pa.Table)]
)
def test_each_validator_gets_its_form(table: Any, cls: type[Recorded], kind: type) -> None:
    """A table of any library comes to a validator in the form that it declares."""
    validator = cls([])
    report = run_validator(validator, table, table)
    assert report.passed, report.checks
    assert all(isinstance(given, kind) and given.shape == (3, 2) for given in validator.seen[0])
    assert report.rows == 3


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_verdict_does_not_depend_on_the_library_of_the_table(table: Any) -> None:
    """Built-in checks find the same in a table of pandas, Polars and Arrow."""
    report = run_validator([NotNull("delay"), InRange("delay", max=600), NotNull("carrier")], table)
    found = {
        check.title: (check.failing, [(row.label, row.value) for row in check.sample]) for check in report.failures
    }
    assert found == {
        "not_null(delay)": (1, [("1", "null")]),
        "in_range(delay)": (1, [("2", "700.0")]),
        "not_null(carrier)": (1, [("2", "null")]),
    }


@pytest.mark.parametrize("validator", [Recorded([]), RecordedArrow([]), RowCount(min=0), NotNull("delay")])
def test_an_empty_table_fails(validator: Validator) -> None:
    """A table without rows fails every validator, and the library is not asked."""
    report = run_validator(validator, FRAME.head(0))
    assert [check.title for check in report.failures] == ["not_empty"]
    assert getattr(validator, "seen", []) == []


def test_missing_column_is_a_failed_check() -> None:
    """A column that a suite names and the table lacks is a failed check that lists the columns there are."""
    report = run_validator(NotNull("delya"), FRAME)
    assert [check.title for check in report.failures] == ["column_exists(delya)"]
    assert "delay, carrier" in report.failures[0].expected


def test_error_of_a_library_is_a_failed_check() -> None:
    """What a validator raises is a failed check with the error, beside those of missing columns."""
    report = run_validator(Raising(), FRAME)
    assert [check.title for check in report.failures] == ["column_exists(gone)", "validator_runs"]
    assert "KeyError: 'gone'" in report.failures[1].message


def test_reference_of_another_schema_is_a_failed_check() -> None:
    """A column that the reference lacks, or has as another kind of value, is a failed check."""
    report = run_validator(Recorded([]), FRAME, FRAME.assign(delay="late").drop(columns="carrier"))
    found = {check.title: (check.observed, check.expected) for check in report.failures}
    assert found["reference_schema(delay)"][0] == "double"
    assert "string" in found["reference_schema(delay)"][1]
    assert found["reference_schema(carrier)"][0] == "missing"


def test_columns_that_no_check_compares_are_not_held_against_the_reference() -> None:
    """Rules for a column that only the table has stand beside comparisons with a reference that lacks it."""
    log = FRAME.assign(prediction=[0.1, 0.2, 0.3])
    training = FRAME.assign(delay=[5.0, 6.0, 7.0])
    checks = [NotNull("prediction"), InRange("delay", max=900), NoOverlap(on=["delay"])]
    assert run_validator(checks, log, training).passed
    report = run_validator(NoOverlap(on=["prediction"]), log, training)
    assert "reference_schema(prediction)" in {check.title for check in report.failures}


def test_validator_of_all_columns_is_told_which_to_compare() -> None:
    """A log of predictions has columns that the training data lacks: what the failed check advises compares the others."""
    log, training = (pa.Table.from_pandas(frame).schema for frame in (FRAME.assign(prediction=0.1), FRAME))
    (failed,) = column_checks(Evidently(DataDriftPreset()), log, training)
    advised = re.search(r"Compare those that both have: (Evidently)\(…, (only=.*)\)\.", failed.message)
    validator = eval(f"Evidently(DataDriftPreset(), {advised[2]})")
    assert validator.columns() == ["delay", "carrier"]
    assert [*column_checks(validator, log, training)] == []


@pytest.mark.parametrize("table", [pd.DataFrame({"n": range(1000)}), ds.dataset(pa.table({"n": range(1000)}))])
def test_sample_is_deterministic_and_stated(table: Any) -> None:
    """A validator that needs the table in memory gets the same random rows each time, and the report says how."""
    first, second = Recorded([]), Recorded([])
    report = run_validator(first, table, sample=100)
    run_validator(second, table, sample=100)
    taken = first.seen[0][0]["n"].tolist()
    assert taken == second.seen[0][0]["n"].tolist() == sampled_rows(1000, 100)
    assert (report.rows, report.sampled) == (1000, 100)
    assert report.statistics["sample"] == "100 of 1,000 rows, drawn at random with seed 0"


def test_built_in_checks_are_never_sampled() -> None:
    """Built-in checks read all rows, whatever the size of the sample is."""
    report = run_validator(InRange("n", max=998), pd.DataFrame({"n": range(1000)}), sample=10)
    assert (report.rows, report.sampled, report.failures[0].failing) == (1000, None, 1)


def test_severity_is_chosen_by_check_and_column() -> None:
    """A severity for a check, a column or both makes its failure a warning."""
    suite = [NotNull("delay"), NotNull("carrier"), InRange("delay", max=600)]
    assert run_validator(suite, FRAME, severity={"delay": "warning", "not_null(carrier)": "warning"}).passed
    report = run_validator(suite, FRAME, severity={"not_null": "warning"})
    assert [check.title for check in report.failures] == ["in_range(delay)"]
    with pytest.raises(ValidationDefinitionError, match="'fatal'"):
        run_validator(suite, FRAME, severity={"not_null": "fatal"})


def check_carriers(table: pd.DataFrame) -> ValidationReport:
    return ValidationReport("carriers", [Check(name="carriers", passed=set(table["carrier"].dropna()) == {"AA", "UA"})])


class CarrierCheck:
    def check(self, table: pd.DataFrame, reference: pd.DataFrame) -> ValidationReport:
        return ValidationReport("carriers", [Check(name="same_rows", passed=len(table) == len(reference))])


def test_a_function_or_an_object_of_the_user_is_a_validator() -> None:
    """A function of the table, and an object or class with a method `check`, get the table as it is."""
    assert run_validator(check_carriers, FRAME).passed
    assert run_validator(CarrierCheck(), FRAME, FRAME).passed
    assert not run_validator(CarrierCheck, FRAME, FRAME.head(1)).passed


def test_function_that_returns_no_report_fails() -> None:
    """A user's function that returns something else is a failed check that names the type."""
    report = run_validator(lambda table: True, FRAME)
    assert "returned bool" in report.failures[0].message


@pytest.mark.parametrize("value", [3, None, {}])
def test_other_values_are_no_validators(value: Any) -> None:
    """What cannot check anything is refused with the list of what can."""
    with pytest.raises(ValidationDefinitionError, match="built-in check"):
        as_validator(value)


def test_value_that_is_no_table_fails() -> None:
    """A value that is no table is a failed check, not an error."""
    report = run_validator(NotNull("delay"), {"delay": [1]})
    assert "got dict" in report.failures[0].message
