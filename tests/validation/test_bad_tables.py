"""Promises of built-in checks and of references, for each way in which a table can be bad."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pandera.pandas as pp
import pointblank as pb
import pytest

from airflow_zen import (
    AllowedValues,
    Check,
    HasType,
    InRange,
    NoDuplicateRows,
    NoOverlap,
    NotConstant,
    NotNull,
    RowCount,
    RowCountChange,
    SameSchema,
    Unique,
    ValidationReport,
)
from airflow_zen.validation.checks import NoTargetLeakage
from airflow_zen.validation.great_expectations import GreatExpectations
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.pointblank import Pointblank
from airflow_zen.validation.validators import run_validator
from tests.validation.flights import BROKEN, failed, month, titled

GOOD = month(1).dropna(subset=["dep_delay"]).head(300).reset_index(drop=True)
BUILT_IN = [
    HasType("dep_delay", "number"),
    NotNull("dep_delay"),
    InRange("dep_delay", min=-60, max=2000),
    AllowedValues("origin", ["JFK", "LGA", "EWR"]),
    Unique(("carrier", "flight", "day", "dep_time")),
    NoDuplicateRows(),
    NotConstant("dep_delay"),
    RowCount(min=300),
    NoTargetLeakage("dep_delay", threshold=1.1),
    NotNull("gone"),
]
COMPARING = [SameSchema(), RowCountChange(max_share=0.5), NoOverlap(on=("flight", "dep_time"))]
OTHERS: dict[str, Any] = {
    "pandera": Pandera(pp.DataFrameSchema({"dep_delay": pp.Column(float, pp.Check.le(2000))})),
    "pointblank": Pointblank(pb.Steps().col_vals_le("dep_delay", 2000)),
    "great_expectations": GreatExpectations(
        [{"type": "expect_column_max_to_be_between", "kwargs": {"column": "dep_delay", "max_value": 2000}}]
    ),
}


def readable(report: ValidationReport) -> bool:
    """Whether each failed check says in a line what was seen."""
    texts = [f"{check.observed} {check.message}".strip() for check in report.checks if not check.passed]
    return all(text and "\n" not in text and "Traceback" not in text for text in texts)


@pytest.mark.parametrize("broken", BROKEN)
def test_built_in_checks_of_a_bad_table_fail_in_words(broken: str) -> None:
    """Each way to break a column fails checks of that column, with what was seen, and no check of another column."""
    report = run_validator(BUILT_IN, BROKEN[broken](GOOD))
    assert readable(report)
    if broken == "empty":
        assert failed(report) == {"not_empty", "column_exists(gone)"}
        return
    of_columns = {check.column for check in report.failures} - {""}
    assert of_columns == {"dep_delay", "gone"}
    assert titled(report)["allowed_values(origin)"].passed
    assert titled(report)["row_count"].passed


@pytest.mark.parametrize("broken", BROKEN)
def test_reference_of_another_schema_fails_in_words(broken: str) -> None:
    """A good table against a bad reference fails checks that name the column, or the rows of the reference."""
    reference = BROKEN[broken](GOOD)
    report = run_validator(COMPARING, GOOD.assign(flight=-1), reference)
    assert readable(report)
    if broken == "empty":
        assert failed(report) == {"row_count_change"}
    elif broken == "all null":
        assert failed(report) == set()
    else:
        assert any("dep_delay" in title for title in failed(report))
    overlapping = run_validator(NoOverlap(on=("flight", "dep_time")), GOOD, reference)
    assert overlapping.passed == (broken == "empty")


@pytest.mark.parametrize("library", OTHERS)
def test_library_without_a_reference_tells_of_one_that_does_not_fit(library: str) -> None:
    """A validator that does not compare fails for a reference without its column, or of another type there."""
    for broken, change in BROKEN.items():
        report = run_validator(OTHERS[library], GOOD, change(GOOD))
        expected = set() if broken in ("empty", "all null") else {"reference_schema(dep_delay)"}
        assert failed(report) == expected, (library, broken, report.failures)


@pytest.mark.parametrize("library", ["built_in", *OTHERS])
def test_table_of_many_columns_has_readable_checks(library: str) -> None:
    """A suite that names an unknown column of a wide table fails in a line of at most 300 characters."""
    validator = NotNull("dep_delay") if library == "built_in" else OTHERS[library]
    wide = pd.DataFrame({f"column_{number}": [1.0] for number in range(500)})
    report = run_validator(validator, wide)
    assert any(check.column == "dep_delay" for check in report.failures)
    assert readable(report)
    assert all(len(check.expected) <= 300 for check in report.checks)


def test_function_of_the_user_that_raises_for_a_bad_table_is_a_failed_check() -> None:
    """What a function raises for a bad table is a failed check with the error in one line."""

    def late(table: pd.DataFrame) -> ValidationReport:
        return ValidationReport("late", [Check(name="late", passed=bool((table["dep_delay"] / 2 < 1000).all()))])

    assert run_validator(late, GOOD).passed
    for broken in ("missing column", "mixed objects", "nested dicts"):
        report = run_validator(late, BROKEN[broken](GOOD))
        assert failed(report) == {"validator_runs"}, broken
        assert readable(report)
