"""Promises of the built-in checks: what each finds, against pandas by hand, in tables of every library and size."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.checks import (
    AllowedValues,
    Fresh,
    HasType,
    InRange,
    NoDuplicateRows,
    NoOverlap,
    NoTargetLeakage,
    NotConstant,
    NotNull,
    RowCount,
    RowCountChange,
    SameSchema,
    TableCheck,
    Unique,
)
from airflow_zen.validation.report import Check, ValidationReport
from airflow_zen.validation.stream_check import StreamCheck
from airflow_zen.validation.validators import run_validator

RNG = np.random.default_rng(0)
ROWS = 200_000
LARGE = pd.DataFrame(
    {
        "delay": np.where(RNG.random(ROWS) < 0.02, np.nan, RNG.normal(10, 200, ROWS).round(1)),
        "carrier": RNG.choice(["AA", "UA", "B6", None], ROWS),
        "flight": RNG.integers(0, 50_000, ROWS),
        "when": pd.Timestamp("2013-01-01") + pd.to_timedelta(RNG.integers(0, 10**7, ROWS), unit="s"),
    }
)


def only(report: ValidationReport) -> Check:
    (check,) = (check for check in report.checks if check.name != "not_empty")
    return check


def run(check: TableCheck, table: Any, reference: Any = None) -> Check:
    return only(run_validator(check, table, reference))


EXPECTED: dict[TableCheck, Any] = {
    NotNull("delay"): LARGE["delay"].isna(),
    NotNull("carrier"): LARGE["carrier"].isna(),
    InRange("delay", -100, 400): (LARGE["delay"] < -100) | (LARGE["delay"] > 400),
    InRange("flight", max=49_000): LARGE["flight"] > 49_000,
    InRange("when", max=datetime(2013, 4, 1)): LARGE["when"] > "2013-04-01",
    AllowedValues("carrier", ("AA", "UA")): ~LARGE["carrier"].isin(["AA", "UA", None]),
    Unique("flight"): LARGE.duplicated("flight"),
    Unique(("carrier", "flight")): LARGE[LARGE["carrier"].notna()].duplicated(["carrier", "flight"]),
    NoDuplicateRows(): LARGE.duplicated(),
}


@pytest.mark.parametrize("check", EXPECTED, ids=lambda check: f"{check.name}-{'-'.join(check.columns())}")
def test_failing_rows_are_those_of_pandas(check: TableCheck) -> None:
    """The number of failing rows, and the rows of the sample, are those that pandas finds in the whole table."""
    expected = EXPECTED[check]
    found = run(check, LARGE)
    assert (found.failing, found.passed) == (int(expected.sum()), not expected.any())
    first = expected.index[expected][:20]
    assert [row.label for row in found.sample] == [str(label) for label in first]


@pytest.mark.parametrize("check", EXPECTED, ids=lambda check: f"{check.name}-{'-'.join(check.columns())}")
def test_batches_of_any_size_give_the_same(check: TableCheck, tmp_path: Path) -> None:
    """A stream of uneven batches is found to have the failing rows of the whole table."""
    table = LARGE.head(5000)
    ends = [0, 1, 2, 1000, 1000, 4999, 5000]
    stream = StreamCheck([check], tmp_path / "s")
    parts = (table.iloc[start:end] for start, end in itertools.pairwise(ends))
    assert sum(map(len, stream.watch(parts))) == 5000
    assert only(stream.report()) == run(check, table)


LABELED = pd.DataFrame({"delay": [1.0, 700.0]}, index=pd.Index(["UA1", "AA2"], name="flight"))


def test_failing_rows_have_the_labels_of_the_index() -> None:
    """A row is named by the index of its frame, and the index is not checked as a column."""
    assert run(InRange("delay", max=600), LABELED).sample[0].label == "AA2"
    assert run(NotConstant(), LABELED).passed


TYPES: dict[str, tuple[Any, set[str]]] = {
    "int": ([1, 2], {"number", "int64"}),
    "float": ([1.0, None], {"number", "double", "float64"}),
    "bool": ([True, False], {"boolean", "bool"}),
    "text": (["a", "b"], {"text"}),
    "category": (pd.Categorical(["a", "b"]), {"text"}),
    "date": ([date(2026, 1, 1)] * 2, {"time", "date32[day]", "date32"}),
    "time": (pd.to_datetime(["2026-01-01"] * 2, utc=True), {"time"}),
    "decimal": ([Decimal("1.5"), Decimal("2.5")], {"number"}),
    "mixed": ([1, "a"], {"mixed: int, str"}),
}


@pytest.mark.parametrize(("values", "names"), TYPES.values(), ids=TYPES.keys())
def test_type_is_known_by_kind_and_name(values: Any, names: set[str]) -> None:
    """A column has the type by which Arrow names it, and the kind of its values; a mixed one has neither."""
    frame = pd.DataFrame({"a": values})
    kinds = ["number", "text", "boolean", "time", *names]
    passed = {name for name in kinds if run(HasType("a", name), frame).passed}
    assert passed == (set() if "mixed: int, str" in names else names)


BAD: dict[str, Any] = {
    "empty": pd.DataFrame({"delay": pd.Series([], dtype="float64")}),
    "no columns": pd.DataFrame(index=range(3)),
    "missing column": pd.DataFrame({"other": [1.0]}),
    "text": pd.DataFrame({"delay": ["late", "later"]}),
    "all null": pd.DataFrame({"delay": [None, None]}),
    "all NaN": pd.DataFrame({"delay": [np.nan, np.nan]}),
    "mixed objects": pd.DataFrame({"delay": [1, "late", object()]}),
    "nested": pd.DataFrame({"delay": [[1, 2], [3]]}),
    "structs": pa.table({"delay": [{"a": 1}, {"a": 2}]}),
    "polars all null": pl.DataFrame({"delay": [None, None]}),
    "polars objects": pl.DataFrame({"delay": pl.Series([object(), object()], dtype=pl.Object)}),
}
VALUE_CHECKS = [
    InRange("delay", 0, 100),
    AllowedValues("delay", (1.0, 2.0)),
    HasType("delay", "number"),
    Fresh("delay", timedelta(days=1)),
    Unique("delay"),
]


PASSING = {("unique", name) for name in ("text", "mixed objects", "nested", "structs", "polars objects")} | {
    ("has_type", "all NaN")
}
"""What these tables do have: values of any type may be unique, and a column of NaN is one of numbers."""


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("check", VALUE_CHECKS, ids=lambda check: check.name)
def test_bad_tables_are_failed_checks(name: str, check: TableCheck) -> None:
    """An empty, wrong, null, mixed or nested column is a failed check that says what was observed, never an error."""
    report = run_validator(check, BAD[name])
    assert report.passed == ((check.name, name) in PASSING), report.checks
    for failure in report.failures:
        assert failure.observed or failure.message
        assert "Traceback" not in failure.message


@pytest.mark.parametrize("table", BAD.values(), ids=BAD.keys())
def test_every_check_survives_bad_tables(table: Any) -> None:
    """No check raises, whatever the table and the reference are."""
    suite = [
        *VALUE_CHECKS,
        NotNull("delay"),
        NotConstant(),
        NoDuplicateRows(),
        RowCount(),
        RowCountChange(),
        SameSchema(),
        NoOverlap(),
        NoTargetLeakage("delay"),
    ]
    for reference in (None, LARGE.head(10), table):
        report = run_validator(suite, table, reference)
        assert "validator_runs" not in {check.name for check in report.checks}, report.checks


def test_freshness_is_measured_at_a_time() -> None:
    """The newest value is compared with the given time; without one, with now."""
    table = pd.DataFrame({"at": pd.to_datetime(["2026-01-01", "2026-01-03"], utc=True)})
    at = datetime(2026, 1, 4, tzinfo=UTC)
    assert run(Fresh("at", timedelta(days=1), at), table).passed
    assert not run(Fresh("at", timedelta(hours=23), at), table).passed
    now = pd.DataFrame({"at": [datetime.now(UTC)]})
    assert run(Fresh("at", timedelta(minutes=5)), now).passed


def test_constant_columns_are_named() -> None:
    """Each column of one value, or of none, is a failed check; equal NaN are one value."""
    table = pd.DataFrame(
        {"one": [1, 1], "none": [np.nan, np.nan], "two": [1, 2], "gap": [1.0, None], "list": [[1], [1]]}
    )
    found = run_validator(NotConstant(), table)
    assert [check.column for check in found.failures] == ["one", "none", "list"]
    assert run(NotConstant("two"), table).passed


def test_rows_of_two_tables_are_compared_by_value() -> None:
    """A row of the test data that is in the training data is found, whatever library and integer type it comes in."""
    train = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None], "only_here": [0, 0, 0]})
    test = pd.DataFrame({"b": ["y", None, "x"], "a": [2.0, 3.0, 7.0]})
    found = run(NoOverlap(), test, train)
    assert (found.passed, found.failing, [row.label for row in found.sample]) == (False, 2, ["0", "1"])
    assert run(NoOverlap(("a",)), test.tail(1), train).passed
    assert run(NoOverlap(max_share=0.7), test, train).passed


def test_schema_is_compared_by_name_and_type() -> None:
    """A missing, a new and a changed column are a failed check each; the order of columns does not matter."""
    before = pd.DataFrame({"a": [1], "b": ["x"], "c": [1.0]})
    assert run(SameSchema(), before[["c", "a", "b"]], before).passed
    found = run_validator(SameSchema(), pd.DataFrame({"a": ["1"], "b": ["x"], "d": [1]}), before)
    assert [check.column for check in found.failures if check.name == "same_schema"] == ["a", "c", "d"]


def test_leakage_is_the_correlation_of_pandas() -> None:
    """The association with a numeric target is the absolute correlation; a copy in another unit is found."""
    x, y = RNG.normal(size=3000), RNG.normal(size=3000)
    table = pd.DataFrame(
        {"target": y + 1e6, "near": y + 0.5 * x, "copy": -60 * y, "group": np.where(y > 0, "late", "early")}
    )
    found = run_validator(NoTargetLeakage("target", severity="error"), table)
    assert [check.column for check in found.failures] == ["copy"]
    near = run_validator(NoTargetLeakage("target"), table.drop(columns="copy")).check("no_target_leakage")
    expected = table["target"].corr(table["near"])
    assert near.value == pytest.approx(expected, abs=1e-9)


def test_leakage_into_a_class_is_found() -> None:
    """A column of text that says the class, and a number that does, are found for a target of text."""
    label = RNG.choice(["on time", "late", "very late"], 3000)
    table = pd.DataFrame(
        {
            "label": label,
            "code": pd.Series(label).map({"on time": "O", "late": "L", "very late": "V"}),
            "flag": label == "late",
            "noise": RNG.normal(size=3000),
            "id": [f"flight {at}" for at in range(3000)],
        }
    )
    found = run_validator(NoTargetLeakage("label"), table)
    assert [check.column for check in found.warnings] == ["code", "flag"]
    assert found.passed


@pytest.mark.parametrize(
    "make",
    [
        lambda: InRange("a"),
        lambda: InRange("a", 3, 2),
        lambda: AllowedValues("a", "text"),
        lambda: AllowedValues("a", ()),
        lambda: NotNull("a", max_share=1.5),
        lambda: NotNull("a", severity="fatal"),
        lambda: RowCount(5, 3),
    ],
)
def test_checks_that_no_table_meets_are_refused(make: Any) -> None:
    """An option that makes no sense is an error where the check is written."""
    with pytest.raises(ValidationDefinitionError):
        make()


def test_stream_without_tables_is_a_failed_check(tmp_path: Path) -> None:
    """A stream of other values, or of nothing, fails without an error."""
    for values in ([{"a": 1}], []):
        stream = StreamCheck([NotNull("a")], tmp_path / "s")
        assert [*stream.watch(iter(values))] == values
        assert not stream.report().passed
