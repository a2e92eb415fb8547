"""Validators that check the same thing find the same rows."""

from __future__ import annotations

from typing import Any

import pandera.pandas as pp
import pointblank as pb
import pytest

from airflow_zen import AllowedValues, InRange, NotNull
from airflow_zen.validation.great_expectations import GreatExpectations
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.pointblank import Pointblank
from airflow_zen.validation.validators import run_validator
from tests.validation.flights import flights

AIRPORTS = ["JFK", "LGA"]


def expectation(name: str, **kwargs: Any) -> GreatExpectations:
    return GreatExpectations([{"type": f"expect_column_values_to_{name}", "kwargs": kwargs}])


def column(name: str, *checks: pp.Check, nullable: bool = True) -> Pandera:
    return Pandera(pp.DataFrameSchema({name: pp.Column(None, list(checks), nullable=nullable)}))


RULES: dict[str, list[Any]] = {
    "nulls": [
        NotNull("dep_delay"),
        column("dep_delay", nullable=False),
        Pointblank(pb.Steps().col_vals_not_null("dep_delay")),
        expectation("not_be_null", column="dep_delay"),
    ],
    "range": [
        InRange("dep_delay", min=-30, max=600),
        column("dep_delay", pp.Check.in_range(-30, 600)),
        Pointblank(pb.Steps().col_vals_between("dep_delay", -30, 600, na_pass=True)),
        expectation("be_between", column="dep_delay", min_value=-30, max_value=600),
    ],
    "allowed values": [
        AllowedValues("origin", AIRPORTS),
        column("origin", pp.Check.isin(AIRPORTS)),
        Pointblank(pb.Steps().col_vals_in_set("origin", AIRPORTS)),
        expectation("be_in_set", column="origin", value_set=AIRPORTS),
    ],
}
EXPECTED = {
    "nulls": lambda frame: frame["dep_delay"].isna(),
    "range": lambda frame: (frame["dep_delay"] < -30) | (frame["dep_delay"] > 600),
    "allowed values": lambda frame: ~frame["origin"].isin(AIRPORTS),
}


@pytest.mark.parametrize("rule", RULES)
def test_same_rule_finds_the_same_rows(rule: str) -> None:
    """Built-in checks, pandera, pointblank and Great Expectations count and label the same rows of all flights."""
    failing = EXPECTED[rule](flights())
    labels = [str(label) for label in flights().index[failing][:20]]
    for validator in RULES[rule]:
        (check,) = run_validator(validator, flights(), sample=0).failures
        assert check.failing == failing.sum(), validator
        assert [row.label for row in check.sample] == labels, validator
