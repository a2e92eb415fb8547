"""Promises of the validator `Pandera`: pandera's own verdicts, batch by batch, with counts and few rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pandera.pandas as pp
import pandera.polars as pap
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.pandera import Pandera
from airflow_zen.validation.report import MAX_SAMPLED_ROWS
from airflow_zen.validation.validators import run_validator
from tests.validation.flights import BROKEN, KEY, failed, flights, month, titled


class Flights(pp.DataFrameModel):
    month: int = pp.Field(in_range={"min_value": 1, "max_value": 12})
    dep_delay: float = pp.Field(ge=-100, le=600, nullable=True)
    arr_delay: float
    origin: str = pp.Field(isin=["JFK", "LGA"])

    @pp.check("dep_delay", element_wise=True, name="half_a_day", raise_warning=True)
    @classmethod
    def below_half_a_day(cls, value: float) -> bool:
        return value < 720

    class Config:
        unique = KEY


SMALL = pd.DataFrame({"a": [1, 2, 3, 4], "b": ["x", "y", "x", "z"]})


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_zen.validation.tables.BATCH_ROWS", 2)


def by_hand(schema: object, frame: pd.DataFrame) -> dict[str, int]:
    """Return the number of failing rows by check, as pandera counts them."""
    with pytest.raises(pp.errors.SchemaErrors) as raised:
        schema.validate(frame, lazy=True)  # type: ignore[attr-defined]
    found: dict[str, int] = {}
    for error in raised.value.schema_errors:
        title = getattr(error.check, "name", None) or str(error.check)
        found[f"{title}({error.schema.name})"] = error.failure_cases["index"].nunique()
    return found


# Of the library called by hand.
@pytest.mark.filterwarnings("ignore::pandera.errors.SchemaWarning")
def test_verdict_is_panderas_own() -> None:
    """On all flights each check has the number of failing rows that pandera finds in the whole table."""
    expected = by_hand(Flights, flights())
    found = titled(run_validator(Pandera(Flights), flights()))
    assert found["less_than_or_equal_to(dep_delay)"].failing == expected["less_than_or_equal_to(dep_delay)"] > 0
    assert found["isin(origin)"].failing == expected["isin(origin)"] > 100_000
    assert found["not_nullable(arr_delay)"].failing == expected["not_nullable(arr_delay)"] > 9000
    assert found["unique"].failing == expected["multiple_fields_uniqueness(Flights)"] > 0
    assert {title for title, check in found.items() if not check.passed} == {
        *(
            "less_than_or_equal_to(dep_delay)",
            "isin(origin)",
            "not_nullable(arr_delay)",
            "unique",
            "half_a_day(dep_delay)",
        ),
    }
    assert found["half_a_day(dep_delay)"].severity == "warning"
    assert found["half_a_day(dep_delay)"].failing == (flights()["dep_delay"] >= 720).sum()


def test_failing_rows_are_labelled() -> None:
    """A sampled row has the label and the value of the row in the table, in whichever batch it is."""
    late = flights()[flights()["dep_delay"] > 1000]
    schema = pp.DataFrameSchema({"dep_delay": pp.Column(float, pp.Check.le(1000), nullable=True)})
    check = titled(run_validator(Pandera(schema), flights()))["less_than_or_equal_to(dep_delay)"]
    assert [(row.label, row.value) for row in check.sample] == [
        (str(label), str(value)) for label, value in late["dep_delay"].items()
    ]
    named = SMALL.set_axis(list("pqrs"))
    check = titled(run_validator(Pandera(pp.DataFrameSchema({"a": pp.Column(int, pp.Check.ge(4))})), named))[
        "greater_than_or_equal_to(a)"
    ]
    assert [row.label for row in check.sample] == ["p", "q", "r"]


def test_failing_rows_are_not_collected() -> None:
    """Of 336,776 failing rows the report has the number, and 20."""
    schema = pp.DataFrameSchema({"dep_delay": pp.Column(nullable=False)})
    check = titled(run_validator(Pandera(schema), flights().assign(dep_delay=float("nan"))))["not_nullable(dep_delay)"]
    assert (check.failing, len(check.sample)) == (336_776, MAX_SAMPLED_ROWS)


def test_rows_are_compared_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Duplicates, and checks that compare rows, are found in different batches of a table."""
    small_batches(monkeypatch)
    schema = pp.DataFrameSchema(
        {"a": pp.Column(int, pp.Check(lambda a: a > a.mean(), name="above_mean")), "b": pp.Column(str, unique=True)}
    )
    found = titled(run_validator(Pandera(schema), SMALL))
    assert found["above_mean(a)"].failing == 2
    assert [(row.label, row.value) for row in found["unique(b)"].sample] == [("0", "x"), ("2", "x")]


def test_table_is_read_in_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file is never in memory as a whole, and of it only the columns of the schema are read."""
    small_batches(monkeypatch)
    pq.write_table(pa.Table.from_pandas(SMALL), tmp_path / "t.parquet")
    seen: list[tuple[list[int], list[str]]] = []
    validate = pp.DataFrameSchema.validate

    def recorded(self: object, frame: pd.DataFrame, **options: object) -> pd.DataFrame:
        seen.append((list(frame.index), list(frame.columns)))
        return validate(self, frame, **options)

    monkeypatch.setattr(pp.DataFrameSchema, "validate", recorded)
    schema = pp.DataFrameSchema({"a": pp.Column(int, pp.Check.ge(1))})
    assert run_validator(Pandera(schema), ds.dataset(tmp_path / "t.parquet")).passed
    assert seen == [([0, 1], ["a"]), ([2, 3], ["a"])]


def test_integers_with_nulls_are_floats_in_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch without nulls has the dtype that the whole column has in pandas."""
    small_batches(monkeypatch)
    table = pa.table({"a": pa.array([1, 2, None, 4], pa.int64())})
    assert run_validator(Pandera(pp.DataFrameSchema({"a": pp.Column(float, nullable=True)})), table).passed
    assert failed(run_validator(Pandera(pp.DataFrameSchema({"a": pp.Column(int, nullable=True)})), table)) == {
        "dtype(a)"
    }


@pytest.mark.parametrize(
    ("broken", "titles"),
    {
        "empty": {"not_empty"},
        "missing column": {"column_in_dataframe(dep_delay)"},
        "wrong dtype": {"dtype(dep_delay)", "greater_than_or_equal_to(dep_delay)", "less_than_or_equal_to(dep_delay)"},
        "all null": {"not_nullable(dep_delay)"},
        "null objects": {"dtype(dep_delay)", "not_nullable(dep_delay)"},
        "mixed objects": {"dtype(dep_delay)", "not_nullable(dep_delay)", "less_than_or_equal_to(dep_delay)"},
        "nested lists": {"dtype(dep_delay)", "greater_than_or_equal_to(dep_delay)", "less_than_or_equal_to(dep_delay)"},
        "nested dicts": {"dtype(dep_delay)", "greater_than_or_equal_to(dep_delay)", "less_than_or_equal_to(dep_delay)"},
    }.items(),
)
def test_bad_tables_fail_in_checks(broken: str, titles: set[str]) -> None:
    """What is wrong with a table is a failed check of the column, without an error of pandera's."""
    schema = pp.DataFrameSchema(
        {
            "dep_delay": pp.Column(float, [pp.Check.ge(-100), pp.Check.le(10_000)]),
            "month": pp.Column(int, pp.Check.eq(1)),
        }
    )
    report = run_validator(Pandera(schema), BROKEN[broken](month(1)))
    assert titles <= failed(report)
    assert "validator_runs" not in titled(report)
    assert broken == "empty" or titled(report)["equal_to(month)"].passed


def test_checks_of_missing_columns_do_not_pass() -> None:
    """A check of a column that the table does not have is not in the report as passed."""
    report = run_validator(Pandera(pp.DataFrameSchema({"gone": pp.Column(int, pp.Check.ge(0))})), SMALL)
    assert {check.title for check in report.checks if check.column} == {"column_in_dataframe(gone)"}


def test_models_of_polars() -> None:
    """A model of pandera.polars checks frames of Polars, with the same counts."""

    class Model(pap.DataFrameModel):
        a: int = pap.Field(ge=3)
        b: str = pap.Field(isin=["x", "y"])

    found = titled(run_validator(Pandera(Model), pl.from_pandas(SMALL)))
    assert found["greater_than_or_equal_to(a)"].failing == 2
    assert [row.value for row in found["isin(b)"].sample] == ["z"]


def test_columns_by_regular_expression() -> None:
    """A column of the schema that is a regular expression has a check for each column that it matches."""
    schema = pp.DataFrameSchema({"(dep|arr)_delay": pp.Column(float, pp.Check.le(600), nullable=True, regex=True)})
    found = titled(run_validator(Pandera(schema), flights()))
    for name in ("dep_delay", "arr_delay"):
        assert found[f"less_than_or_equal_to({name})"].failing == (flights()[name] > 600).sum()


def test_coercion_is_for_the_checks() -> None:
    """A schema that coerces passes what can be converted, and names what cannot."""
    schema = pp.DataFrameSchema({"a": pp.Column(int, pp.Check.ge(1), coerce=True)})
    assert run_validator(Pandera(schema), SMALL.astype(str)).passed
    assert "coerce_dtype(b)" in failed(
        run_validator(Pandera(pp.DataFrameSchema({"b": pp.Column(int, coerce=True)})), SMALL)
    )


def test_schema_is_required() -> None:
    """What is no schema is refused where it is written."""
    for given in (pd.DataFrame, "schema.yaml", pp.Column(int)):
        with pytest.raises(ValidationDefinitionError, match="takes a DataFrameSchema"):
            Pandera(given)


_MODEL_USED = """
import sys
import pandas as pd, pandera.pandas as pa
from airflow_zen.caching.code import fingerprint_code

class Delays(pa.DataFrameModel):
    delay: float = pa.Field(le=600, in_range={"min_value": 0, "max_value": LIMIT})

def check(frame):
    return Delays.validate(frame)

def key():
    return fingerprint_code(check).ingredients

before = key()
check(pd.DataFrame({"delay": [1.0]}))
assert key() == before
print(before)
"""


def test_a_model_has_the_same_key_after_its_use(tmp_path: Path) -> None:
    """The first check registers pandera's own functions, which are no part of the key; the limits of checks are."""
    keys = []
    for limit in ("60", "60", "61"):
        (tmp_path / "checked.py").write_text(_MODEL_USED.replace("LIMIT", limit))
        keys.append(subprocess.check_output([sys.executable, "checked.py"], cwd=tmp_path, text=True))
    assert (keys[0] == keys[1], keys[1] == keys[2]) == (True, False)
