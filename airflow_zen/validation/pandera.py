"""Schemas of pandera: checks of single rows are made batch by batch, the others on the whole columns that they need."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.type_names import display_name
from airflow_zen.validation.base import Form, Validator
from airflow_zen.validation.report import MAX_SAMPLED_ROWS, Check, FailingRow, ValidationReport
from airflow_zen.validation.tables import BATCH_ROWS, data_columns, index_columns, to_frame

log = logging.getLogger("airflow_zen.validation")

_BY_ROW = frozenset(
    [
        "equal_to",
        "not_equal_to",
        "greater_than",
        "greater_than_or_equal_to",
        "less_than",
        "less_than_or_equal_to",
        "in_range",
        "isin",
        "notin",
        "str_matches",
        "str_contains",
        "str_startswith",
        "str_endswith",
        "str_length",
    ]
)
"""The checks of pandera whose verdict on a row does not depend on other rows."""

_REASONS = {
    "COLUMN_NOT_IN_DATAFRAME": "column_in_dataframe",
    "COLUMN_NOT_IN_SCHEMA": "column_in_schema",
    "COLUMN_NOT_ORDERED": "column_ordered",
    "DATATYPE_COERCION": "coerce_dtype",
    "DUPLICATES": "unique",
    "SERIES_CONTAINS_DUPLICATES": "unique",
    "SERIES_CONTAINS_NULLS": "not_nullable",
    "WRONG_DATATYPE": "dtype",
}
_OF_CHECKS = frozenset(("DATAFRAME_CHECK", "SCHEMA_COMPONENT_CHECK", "CHECK_ERROR"))


@dataclass(frozen=True)
class Pandera(Validator):
    """Check a table with a schema of pandera: a `DataFrameSchema` or a class of `DataFrameModel`, of pandas or Polars.

    The table is read batch by batch for dtypes, nulls, the checks that pandera has itself, such as `ge`, and
    `element_wise` checks. Uniqueness, an index and users' other checks get the columns that they need in memory, and
    a schema with parsers the whole table. What the schema coerces is coerced for the checks; the artifact stays as it
    is.
    """

    schema: Any
    library: ClassVar[str] = "pandera"
    form: ClassVar[Form] = "batches"

    def __post_init__(self) -> None:
        """Raise `ValidationDefinitionError` for what is not a schema."""
        if not is_schema(self.schema):
            raise ValidationDefinitionError(
                f"Pandera(…) takes a DataFrameSchema or a class of DataFrameModel of pandera, got {self.schema!r}."
            )

    def columns(self) -> list[str]:
        """Return the columns that the schema requires by name."""
        columns = schema_of(self.schema).columns.items()
        return [name for name, column in columns if column.required and not column.regex]

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Return a check for the dtype and the nulls of each column, and for each check of the schema."""
        names = data_columns(table.schema)
        schema = _expanded(schema_of(self.schema), names)
        outcomes = _Outcomes()
        for number, (part, by_row) in enumerate(_parts(schema)):
            outcomes.declare(number, part, names)
            for frame, start in _frames(table, part, whole=not by_row):
                outcomes.validate(number, part, frame, start)
        return ValidationReport(self.title, tuple(outcomes.checks()))


def is_schema(value: Any) -> bool:
    """Whether a value is a schema of a table, or the class of a model of one, of pandera."""
    bases = (value if isinstance(value, type) else type(value)).__mro__
    kind = "DataFrameModel" if isinstance(value, type) else "DataFrameSchema"
    return any(base.__name__ == kind and base.__module__.startswith("pandera.") for base in bases)


def schema_of(schema: Any) -> Any:
    """Return the `DataFrameSchema` of a model, or the schema itself."""
    return schema.to_schema() if hasattr(schema, "to_schema") else schema


def conform(frame: Any, model: Any) -> tuple[Any, tuple[Check, ...]]:
    """Return a frame of pandas or Polars as a schema leaves it, and what it fails, which is nothing if it conforms.

    The frame itself is returned unless the schema coerces, parses or fills it. A failed check with `raise_warning` is
    logged.
    """
    schema = _expanded(schema_of(model), list(frame.columns))
    outcomes = _Outcomes()
    for number, (part, by_row) in enumerate(_parts(schema)):
        outcomes.declare(number, part, list(frame.columns))
        size = BATCH_ROWS if by_row else max(1, len(frame))
        for start in range(0, max(1, len(frame)), size):
            rows = frame.iloc[start : start + size] if hasattr(frame, "iloc") else frame.slice(start, size)
            outcomes.validate(number, part, rows, start)
    failed = [check for check in outcomes.checks() if not check.passed]
    for check in failed:
        if not check.is_failure:
            log.warning("%s fails in %s rows of %s", check.title, check.failing, display_name(model))
    failures = tuple(check for check in failed if check.is_failure)
    return (frame if failures or not _changes_tables(schema) else _without_checks(schema).validate(frame)), failures


def _without_checks(schema: Any) -> Any:
    """Return a schema that only changes frames: what they fail is known, and pandera prints all values that warn."""
    schema.checks, schema.unique = [], None
    for column in schema.columns.values():
        column.checks, column.unique = [], False
    return schema


def _changes_tables(schema: Any) -> bool:
    parts = [schema, *schema.columns.values()]
    is_filtered = schema.strict == "filter" or getattr(schema, "add_missing_columns", False)
    return is_filtered or any(
        part.coerce or getattr(part, "parsers", ()) or getattr(part, "default", None) is not None for part in parts
    )


def _expanded(schema: Any, names: Iterable[str]) -> Any:
    """Return a copy of the schema whose checks count all failing rows and keep few, without regular expressions."""
    schema, columns = deepcopy(schema), {}
    for name, column in schema.columns.items():
        for found in (each for each in names if re.match(name, each)) if column.regex else [name]:
            columns[found] = deepcopy(column)
            columns[found].regex = False
            columns[found].set_name(found)
        if column.regex and column.required and not any(re.match(name, each) for each in names):
            columns[name] = column
    schema.columns = columns
    return schema


def _parts(schema: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the part of a schema that looks at one row at a time, and the rest, each with whether it is the first."""
    if getattr(schema, "parsers", ()) or any(getattr(column, "parsers", ()) for column in schema.columns.values()):
        yield schema, False
        return
    by_row, rest = deepcopy(schema), deepcopy(schema)
    by_row.unique, by_row.checks = None, [check for check in schema.checks if check.element_wise]
    rest.checks = [check for check in schema.checks if not check.element_wise]
    rest.strict = rest.ordered = False
    if hasattr(by_row, "index"):
        by_row.index = None
    for name, column in schema.columns.items():
        by_row.columns[name].unique = False
        by_row.columns[name].checks = [check for check in column.checks if _is_by_row(check)]
        later = rest.columns[name]
        later.checks = [check for check in column.checks if not _is_by_row(check)]
        later.nullable, later.required = True, False
        if not later.coerce:
            later.dtype = None
        if not later.checks and not later.unique:
            del rest.columns[name]
    yield by_row, True
    if rest.columns or rest.checks or rest.unique or getattr(rest, "index", None):
        yield rest, False


def _is_by_row(check: Any) -> bool:
    return check.groupby is None and (check.element_wise or check.name in _BY_ROW)


def _frames(table: Any, schema: Any, *, whole: bool) -> Iterator[tuple[Any, int]]:
    """Yield the frames to validate, each with the number of its first row in the table."""
    import pyarrow as pa

    needs_all = schema.strict or schema.ordered or schema.checks or getattr(schema, "parsers", ())
    keys = [schema.unique] if isinstance(schema.unique, str) else list(_flat(schema.unique or ()))
    wanted = {*schema.columns, *keys, *index_columns(table.schema)}
    names = [name for name in table.schema.names if needs_all or name in wanted]
    is_polars = "polars" in type(schema).__module__
    if whole:
        yield _frame(pa.Table.from_batches(table(names), _subset(table.schema, names)), 0, is_polars, ()), 0
        return
    nullable = () if is_polars else _nullable_integers(table, names)
    start = 0
    for batch in table(names):
        yield _frame(pa.Table.from_batches([batch], _subset(table.schema, names)), start, is_polars, nullable), start
        start += batch.num_rows


def _flat(names: Iterable[Any]) -> Iterator[str]:
    for name in names:
        yield from [name] if isinstance(name, str) else name


def _subset(schema: Any, names: list[str]) -> Any:
    import pyarrow as pa

    return pa.schema([schema.field(name) for name in names], schema.metadata)


def _frame(table: Any, start: int, is_polars: bool, floats: Iterable[str]) -> Any:
    if is_polars:
        import polars as pl

        return pl.from_arrow(table)
    frame = to_frame(table)
    if not index_columns(table.schema):
        frame.index = range(start, start + len(frame))
    return frame.astype(dict.fromkeys(floats, float)) if floats else frame


def _nullable_integers(table: Any, names: list[str]) -> list[str]:
    """Return the integer columns with nulls, which are floats in each batch, not only in those with nulls."""
    import pyarrow.types as kinds

    empty = to_frame(_subset(table.schema, names).empty_table())
    found = [name for name in names if kinds.is_integer(table.schema.field(name).type)]
    found = [
        name
        for name in found
        if name in empty and empty[name].dtype.kind in "iu" and "Int" not in str(empty[name].dtype)
    ]
    nulls = dict.fromkeys(found, 0)
    for batch in table(found) if found else ():
        for name in found:
            nulls[name] += batch.column(name).null_count
    return [name for name, count in nulls.items() if count]


class _Outcome(msgspec.Struct):
    """What one check of the schema found so far."""

    name: str
    column: str = ""
    severity: str = "error"
    expected: str = ""
    observed: str = ""
    passed: bool = True
    failing: int | None = None
    sample: tuple[FailingRow, ...] = ()
    message: str = ""


class _Outcomes:
    """The outcomes of all checks of the parts of a schema, over the batches of a table."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], _Outcome] = {}

    def declare(self, part: int, schema: Any, names: list[str]) -> None:
        """Take the checks of a part as passed for the columns that the table has, and let them keep few rows."""
        for name, column in schema.columns.items():
            if name not in names:
                continue
            if column.dtype is not None and (part == 0 or not column.coerce):
                self._found["dtype", name] = _Outcome("dtype", name, expected=str(column.dtype))
            if not column.nullable:
                self._found["not_nullable", name] = _Outcome("not_nullable", name, expected="no nulls")
            if column.unique:
                self._found["unique", name] = _Outcome("unique", name, expected="no duplicates")
            self._declare_checks(part, name, column.checks)
        if schema.unique:
            keys = ", ".join(_flat([schema.unique] if isinstance(schema.unique, str) else schema.unique))
            self._found["unique", ""] = _Outcome("unique", expected=f"no duplicates of {keys}")
        self._declare_checks(part, "", schema.checks)

    def _declare_checks(self, part: int, column: str, checks: Iterable[Any]) -> None:
        for at, check in enumerate(checks):
            severity = "warning" if check.raise_warning else "error"
            self._found[part, column, at] = _Outcome(_name_of(check), column, severity, str(check.error or ""))
            check.raise_warning, check.n_failure_cases = False, MAX_SAMPLED_ROWS

    def validate(self, part: int, schema: Any, frame: Any, start: int) -> None:
        """Validate one batch, whose first row has this number in the table."""
        from pandera.errors import SchemaErrors

        try:
            schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            for error in errors.schema_errors:
                self._fail(part, error, start)

    def _fail(self, part: int, error: Any, start: int) -> None:
        reason = str(getattr(error.reason_code, "name", error.reason_code))
        name = _REASONS.get(reason) or _name_of(error.check)
        column = _column_of(error, reason)
        key = (part, column, error.check_index) if reason in _OF_CHECKS else (name, column)
        outcome = self._found.setdefault(key, _Outcome(name, column))
        outcome.passed = False
        cases = error.failure_cases
        if not hasattr(cases, "columns"):
            outcome.observed = outcome.observed or ("" if isinstance(cases, bool) else _first_line(cases))
        else:
            outcome.failing = (outcome.failing or 0) + _failing(error)
            room = MAX_SAMPLED_ROWS - len(outcome.sample)
            outcome.sample += tuple(_rows(_first_cases(cases, room), start)) if room else ()
        if reason == "CHECK_ERROR":
            outcome.message, outcome.observed = (
                "The check cannot be made of these values.",
                outcome.observed or "an error",
            )
        if name == "dtype":
            outcome.message = "Without coerce=True pandera converts nothing, not even an integer to a float."

    def checks(self) -> Iterator[Check]:
        """Yield the outcomes in the order of the schema."""
        for found in self._found.values():
            yield Check(**{field: getattr(found, field) for field in found.__struct_fields__})


def _column_of(error: Any, reason: str) -> str:
    if reason in ("COLUMN_NOT_IN_DATAFRAME", "COLUMN_NOT_IN_SCHEMA", "COLUMN_NOT_ORDERED"):
        return str(error.failure_cases)
    if type(error.schema).__name__ == "DataFrameSchema":
        return str(error.column_name or "") if reason == "DATATYPE_COERCION" else ""
    return str(error.schema.name or "")


def _name_of(check: Any) -> str:
    name = str(getattr(check, "name", None) or check)
    return str(check.error or "check") if name == "<lambda>" else name


def _failing(error: Any) -> int:
    """Return the number of failing rows; the failure cases may be only the first of them."""
    output, cases = error.check_output, error.failure_cases
    if str(getattr(error.reason_code, "name", "")) not in _OF_CHECKS or output is None:
        return int(cases["index"].nunique()) if "index" in cases.columns else len(cases)
    if type(output).__module__.startswith("polars"):
        return int((~output.get_column("check_output")).sum())
    failing = output == False  # noqa: E712 - of a series
    return int((failing.any(axis=1) if failing.ndim == 2 else failing).sum())


def _first_cases(cases: Any, count: int) -> Any:
    """Return the failure cases of the first failing rows; uniqueness of several columns has one for each of them."""
    if "column" in cases.columns and "index" in cases.columns and hasattr(cases, "iloc"):
        return cases[cases["index"].isin(cases["index"].unique()[:count])]
    return cases.head(count)


def _rows(cases: Any, start: int) -> Iterator[FailingRow]:
    """Yield failing rows; those of Polars have no labels."""
    if type(cases).__module__.startswith("polars"):
        for row in cases.to_dicts():
            label = f"{start + row.pop('index')}" if isinstance(row.get("index"), int) else ""
            yield FailingRow(label, ", ".join(map(str, row.values())))
        return
    rows: dict[str, list[str]] = {}
    for row in cases.to_dict("records"):
        rows.setdefault(str(row.pop("index", "")), []).append(str(row.get("failure_case", row)))
    for label, values in rows.items():
        yield FailingRow(label, ", ".join(values))


def _first_line(value: Any) -> str:
    return "" if value is None else str(value).strip().partition("\n")[0]
