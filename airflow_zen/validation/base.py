"""The protocol of validators, and what each of them gets from `run_validator`.

A validator checks one table, perhaps against a reference, and returns a `ValidationReport`. It is a function
`check(table, reference)`, an object with that method, or a subclass of `Validator`. A file of a library defines one
frozen `msgspec.Struct` that derives from `Validator`:

    class Pandera(Validator, frozen=True):
        schema: Any
        library: ClassVar[str] = "pandera"
        form: ClassVar[Form] = "pandas"

        def check(self, table, reference=None):
            import pandera.pandas as pa
            ...
            return ValidationReport(self.title, checks, statistics=…, metrics={"drift.share": 0.2}, files={"page.html": b"…"})

Its rules:
- The library is imported inside functions: a DAG file that names the validator is parsed without it.
- Its fields are the suite, and part of the cache key: plain values, records, functions and classes, whose code is in the
  key too. A path of a suite's file is read when the object is made, so that the content is in the key. `repr` is the same
  in every process; Airflow stores it with the DAG.
- `form` is what `check` receives: `pandas`, `polars` or `arrow` (a table in memory, of at most `sample` rows where the
  user asks for a sample), `batches` (`validation.tables.Batches`, read batch by batch in bounded memory, never
  sampled), or `stored` (the value as its step returned it; for functions of users).
- `columns()` names the columns that the suite uses, None for those that it does not name.
- It returns checks, and does not raise: but what it raises all the same, `run_validator` turns into a failed check.
- It does not count empty tables, missing columns, and references of another schema: `run_validator` adds these checks.
- Failing rows are counted by the library and sampled, 20 at most: `Check(failing=…, sample=[FailingRow(label, value)])`.
- A statistical verdict names its `method`, `value` and `threshold`.
- Names of checks are those of the library, without the column: `Check(name="in_range", column="dep_delay")`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import InputError, ValidationDefinitionError
from airflow_zen.materializers.base import installed_version
from airflow_zen.type_names import display_name
from airflow_zen.validation.report import Check, ValidationReport

log = logging.getLogger("airflow_zen.validation")

ENTRY_POINT_GROUP = "airflow_zen.validators"
DEFAULT_SAMPLE = 100_000
"""The number of rows that validators check which cannot read a table batch by batch."""

Form = Literal["stored", "pandas", "polars", "arrow", "batches"]
CheckFunction = Callable[..., ValidationReport]


class Validator(msgspec.Struct, frozen=True):
    """The base of validators; the module's docstring says what one does.

    `library` is the distribution that the report names, `form` what `check` receives. `runtime` is the text of the
    runtime it needs where its library cannot be installed beside Airflow, such as `Virtualenv(…)`.
    """

    library: ClassVar[str] = ""
    form: ClassVar[Form] = "stored"
    runtime: ClassVar[str] = ""

    @property
    def title(self) -> str:
        """The name that reports show: the library with its version, else the class."""
        name = self.library or type(self).__name__
        return f"{name} {installed_version(self.library)}".strip() if self.library else name

    def columns(self) -> Iterable[str] | None:
        """Return the columns that the suite names; None if it names none, and uses all."""
        return None

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Check a table, in the form that the class declares; `reference` has the same form, or is None."""
        raise NotImplementedError(f"{type(self).__qualname__} has no method check.")


class FunctionValidator(Validator, frozen=True):
    """A function, or an object with a method `check`, of a user: called with the table as it was stored.

    The reference is a second argument where there is one.
    """

    function: Any

    @property
    def title(self) -> str:
        """The name of the function, or of the object's class."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Call the function; raise `TypeError` for a result that is not a report."""
        call = getattr(self.function, "check", self.function)
        found = call(table) if reference is None else call(table, reference)
        if not isinstance(found, ValidationReport):
            raise TypeError(
                f"{self.title} returned {display_name(type(found))}. Return an airflow_zen.ValidationReport."
            )
        return found


def as_validator(value: Any) -> Validator:
    """Return a validator, the suite of a list of built-in checks, the validator of a name, or a user's function or object.

    Raises `ValidationDefinitionError` for anything else.
    """
    if isinstance(value, Validator):
        return value
    if isinstance(value, list | tuple) and value:
        from airflow_zen.validation.checks import Suite

        return Suite(tuple(value))
    if isinstance(value, str):
        return as_validator(_registered(value))
    if isinstance(value, type):
        value = value()
    if callable(value) or callable(getattr(value, "check", None)):
        return value if isinstance(value, Validator) else FunctionValidator(value)
    raise ValidationDefinitionError(
        f"A validator is a built-in check or a list of them, a validator of a library such as Pandera(schema), the name of a "
        f"registered one, or a function of the table that returns a ValidationReport; got {value!r}."
    )


def run_validator(
    validator: Any,
    table: Any,
    reference: Any = None,
    *,
    sample: int | None = None,
    severity: Mapping[str, str] | None = None,
) -> ValidationReport:
    """Check a table, and return the report; an error of the validator is a failed check.

    `table` and `reference` are tables of pandas, Polars or Arrow, or datasets. `sample` is the number of rows that a
    validator checks which needs a table in memory, `DEFAULT_SAMPLE` by default; 0 for all rows. `severity` changes
    severities, as `ValidationReport.with_severities`.
    """
    validator = as_validator(validator)
    facts: list[Check] = []
    try:
        prepared = _prepare(validator, table, reference, DEFAULT_SAMPLE if sample is None else sample)
    except InputError as error:
        return ValidationReport(validator.title, (Check(name="table", passed=False, message=str(error)),))
    facts += prepared.facts
    report = ValidationReport(validator.title)
    if prepared.rows != 0:
        report = _call(validator, prepared)
    known = {(check.column, check.passed) for check in report.checks}
    facts = [fact for fact in facts if fact.name != "column_exists" or (fact.column, False) not in known]
    report = replace(report, checks=(*facts, *report.checks))
    report = replace(report, rows=prepared.rows if report.rows is None else report.rows, sampled=prepared.sampled)
    return report.with_severities(severity) if severity else report


class _Prepared(msgspec.Struct, frozen=True):
    """The arguments of `check`, what the table itself fails, and the numbers of rows: of the table, and of the sample."""

    table: Any
    reference: Any
    facts: list[Check]
    rows: int | None
    sampled: int | None


def _prepare(validator: Validator, table: Any, reference: Any, sample: int) -> _Prepared:
    if validator.form == "stored":
        rows = _row_count(table)
        return _Prepared(table, reference, [] if rows is None else [_not_empty(rows)], rows, None)
    from airflow_zen.validation.tables import to_batches

    batches, other = to_batches(table), None if reference is None else to_batches(reference)
    rows = batches.rows
    facts = [_not_empty(rows), *_column_checks(validator, batches.schema, other.schema if other else None)]
    is_sampled = validator.form != "batches" and 0 < sample < rows
    shaped, beside = (None if each is None else _shape(each, validator.form, sample) for each in (batches, other))
    return _Prepared(shaped, beside, facts, rows, sample if is_sampled else None)


def _not_empty(rows: int) -> Check:
    return Check(name="not_empty", passed=rows > 0, observed=f"{rows} rows", expected="at least 1 row")


def _column_checks(validator: Validator, schema: Any, reference: Any) -> Iterator[Check]:
    """Yield a failed check for each column that is missing, here or in the reference, or of another kind there."""
    from airflow_zen.validation.tables import data_columns, type_kind, type_text

    named = validator.columns()
    for name in dict.fromkeys(data_columns(schema) if named is None else named):
        if name not in schema.names:
            expected = f"one of {', '.join(data_columns(schema))}"
            yield Check(name="column_exists", passed=False, column=name, observed="missing", expected=expected)
        elif reference is not None and name not in reference.names:
            message = "The reference has no such column."
            yield Check(name="reference_schema", passed=False, column=name, observed="missing", message=message)
        elif reference is not None and type_kind(schema.field(name)) != type_kind(reference.field(name)):
            observed, expected = type_text(schema.field(name)), type_text(reference.field(name))
            yield Check(name="reference_schema", passed=False, column=name, observed=observed, expected=expected)


def _shape(batches: Any, form: Form, sample: int) -> Any:
    from airflow_zen.validation.tables import to_arrow, to_frame

    if form == "batches":
        return batches
    rows = batches.rows
    table = batches.take(sampled_rows(rows, sample)) if 0 < sample < rows else to_arrow(batches.source)
    if form == "pandas":
        return to_frame(table)
    if form == "polars":
        import polars as pl

        return pl.from_arrow(table)
    return table


def sampled_rows(rows: int, sample: int) -> list[int]:
    """Return the sorted positions of a random sample without replacement, the same for the same numbers."""
    from random import Random

    return sorted(Random(0).sample(range(rows), sample))  # noqa: S311 - not for secrets


def _row_count(table: Any) -> int | None:
    """Return the number of rows of a table, None for a value that has none."""
    shape = getattr(table, "shape", None)
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    return None


def _call(validator: Validator, prepared: _Prepared) -> ValidationReport:
    try:
        return validator.check(prepared.table, prepared.reference)
    except Exception as error:
        log.debug("%s raised", validator.title, exc_info=True)
        cause = f"{type(error).__name__}: {error}"
        check = Check(name="validator_runs", passed=False, observed="an error", expected="a report", message=cause)
        return ValidationReport(validator.title, (check,))


def _registered(name: str) -> Any:
    found = entry_point_validators()
    if name not in found:
        known = ", ".join(map(repr, sorted(found))) or "none"
        raise ValidationDefinitionError(
            f"No validator is registered as {name!r}; registered are {known}. Install the distribution that offers it as an "
            f"entry point of the group {ENTRY_POINT_GROUP!r}."
        )
    return found[name]()


@cache
def entry_point_validators() -> Mapping[str, Callable[[], Any]]:
    """Return the functions that import the validators that installed distributions offer, by name."""
    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    return {point.name: _loader(point) for point in points}


def _loader(point: Any) -> Callable[[], Any]:
    def load() -> Any:
        try:
            return point.load()
        except Exception as error:
            where = f"The entry point {point.name} = {point.value}"
            raise ValidationDefinitionError(f"{where} cannot be imported: {error}. Fix or uninstall it.") from error

    return load
