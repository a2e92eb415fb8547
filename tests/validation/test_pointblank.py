"""Promises of the validator `Pointblank`: the library's verdict of each step."""

from __future__ import annotations

from typing import Any

import pointblank as pb
import pytest

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.pointblank import Pointblank
from airflow_zen.validation.validators import run_validator
from tests.validation.flights import BROKEN, KEY, failed, flights, month, titled

STEPS = (
    pb.Steps()
    .col_vals_not_null(["dep_delay", "tailnum"])
    .col_vals_between("dep_delay", -60, 600, na_pass=True)
    .col_vals_in_set("origin", ["JFK", "LGA", "EWR"])
    .rows_distinct(KEY)
    .row_count_match(336_776)
)


def test_verdict_is_the_librarys_own() -> None:
    """On all flights each step has the verdict and the number of failing rows of the library called by hand."""
    report = run_validator(Pointblank(STEPS), flights(), sample=0)
    by_hand = pb.Validate(flights()).add_steps(STEPS).interrogate()
    expected = [(step.assertion_type, bool(step.all_passed), step.n_failed) for step in by_hand.validation_info]
    found = [(check.name, check.passed, check.failing) for check in report.checks[1:]]
    assert found == [(name, passed, None if name == "row_count_match" else count) for name, passed, count in expected]
    assert report.passed == by_hand.all_passed()
    late = flights().query("dep_delay > 600").index[0]
    sample = titled(report)["col_vals_between(dep_delay)"].sample
    assert (sample[0].label, sample[0].value) == (str(late), str(flights()["dep_delay"][late]))
    assert len(sample) == 20


def test_thresholds_are_levels() -> None:
    """A step with thresholds passes below them, warns above `warning`, and fails above `error`."""
    steps = pb.Steps()
    for limits in ((0.5, 0.6, 0.7), (0.01, 0.5, 0.7), (0.001, 0.01, 0.7)):
        steps = steps.col_vals_not_null("dep_delay", thresholds=limits)
    found = run_validator(Pointblank(steps), flights(), sample=0).checks[1:]
    assert [(check.passed, check.severity) for check in found] == [
        (True, "error"),
        (False, "warning"),
        (False, "error"),
    ]
    assert {check.failing for check in found} == {8255}


def test_a_function_may_add_the_steps() -> None:
    """A function gets pointblank's object with the table in it, and adds steps."""

    def add_steps(validation: Any) -> Any:
        return validation.col_vals_le("month", 1)

    report = run_validator(Pointblank(add_steps), month(2))
    assert failed(report) == {"col_vals_le(month)"}
    assert report.failures[0].failing == len(month(2))


@pytest.mark.parametrize("broken", BROKEN)
def test_bad_tables_fail_in_checks(broken: str) -> None:
    """What is wrong with a table fails the steps of its column, and no step that does not read it."""
    steps = pb.Steps().col_vals_between("dep_delay", -60, 2000).col_vals_eq("month", 1).col_vals_gt("gone", 0)
    report = run_validator(Pointblank(steps), BROKEN[broken](month(1)))
    if broken == "empty":
        assert failed(report) == {"not_empty"}
        return
    assert failed(report) == {"col_vals_between(dep_delay)", "col_vals_gt(gone)"}
    assert titled(report)["col_vals_eq(month)"].passed
    assert not any("Traceback" in check.message for check in report.checks)


def test_steps_are_required() -> None:
    """What is neither steps nor a function is refused where it is written."""
    with pytest.raises(ValidationDefinitionError, match="takes pointblank.Steps"):
        Pointblank("steps.yaml")
