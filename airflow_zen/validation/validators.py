"""Validators by what a user names, their run over one table, and the functions that `validate` makes steps of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import InputError, ValidationDefinitionError
from airflow_zen.validation.base import Form, FunctionValidator, Validator, not_empty
from airflow_zen.validation.checks import Suite, TableCheck
from airflow_zen.validation.report import Check, ValidationReport, describe_sample

if TYPE_CHECKING:
    import pyarrow.dataset as ds

log = logging.getLogger("airflow_zen.validation")

ENTRY_POINT_GROUP = "airflow_zen.validators"
DEFAULT_SAMPLE = 100_000
"""The number of rows that validators check which cannot read a table batch by batch."""


def as_validator(value: Any) -> Validator:
    """Return a validator, the validator of a name, or that of a user's function, object or class.

    Raises `ValidationDefinitionError` for anything else.
    """
    if isinstance(value, Validator):
        return value
    if isinstance(value, str):
        return as_validator(_registered(value))
    if isinstance(value, type):
        return as_validator(value())
    if callable(value) or callable(getattr(value, "check", None)):
        return FunctionValidator(value)
    raise ValidationDefinitionError(
        "A validator is a built-in check, a validator of a library such as Pandera(schema), the name of a registered "
        f"one, a function of the table that returns a ValidationReport, or a list of these; got {value!r}."
    )


def as_validators(value: Any) -> list[Validator]:
    """Return a validator, or those of a list, with all built-in checks in one suite; raises as `as_validator`."""
    found = [as_validator(item) for item in (value if isinstance(value, list | tuple) else [value])]
    if not found:
        raise ValidationDefinitionError("There is nothing to check: the list of validators is empty.")
    built_in = tuple(validator for validator in found if isinstance(validator, TableCheck))
    others = [validator for validator in found if not isinstance(validator, TableCheck)]
    return [Suite(built_in), *others] if built_in else others


def uses_reference(value: Any) -> bool:
    """Whether a validator, or one of a list, compares with a reference."""
    return any(validator.compares for validator in as_validators(value))


def run_validator(
    validator: Any,
    table: Any,
    reference: Any = None,
    *,
    sample: int | None = None,
    severity: Mapping[str, str] | None = None,
) -> ValidationReport:
    """Check a table, and return the report; an error of the validator is a failed check.

    `validator` may be a list; the report then says of each check whose it is. `table` and `reference` are tables of
    pandas, Polars or Arrow, or datasets. `sample` is the number of rows for a validator that needs the table in
    memory, `DEFAULT_SAMPLE` by default; 0 for all rows. `severity` changes severities, as
    `ValidationReport.with_severities`.
    """
    rows = DEFAULT_SAMPLE if sample is None else sample
    reports = [run_one(each, table, reference, rows) for each in as_validators(validator)]
    report = merge_reports(reports)
    return report.with_severities(severity) if severity else report


def merge_reports(reports: Sequence[ValidationReport]) -> ValidationReport:
    """Return one report of several, whose checks name their validators; a single one is returned as it is."""
    if len(reports) == 1:
        return reports[0]
    checks: list[Check] = []
    for report in reports:
        named = [replace(check, validator=check.validator or report.validator) for check in report.checks]
        common = {check.title for check in checks if check.name in _COMMON}
        checks += [check for check in named if check.name not in _COMMON or check.title not in common]
    sampled = [report.sampled for report in reports if report.sampled is not None]
    return ValidationReport(
        " + ".join(report.validator for report in reports),
        tuple(checks),
        next((report.rows for report in reports if report.rows is not None), None),
        min(sampled, default=None),
        {f"{r.validator}: {name}": value for r in reports for name, value in r.statistics.items()},
        {name: value for report in reports for name, value in report.metrics.items()},
        {name: content for report in reports for name, content in report.files.items()},
    )


def validate_table(
    table: ds.Dataset,
    validator: Any,
    reference: ds.Dataset | None = None,
    sample: int | None = None,
    severity: Mapping[str, str] | None = None,
) -> ValidationReport:
    """Return the report of a stored table, which is read batch by batch, or as a sample."""
    return run_validator(validator, table, reference, sample=sample, severity=severity)


def validate_value(
    table: Any,
    validator: Any,
    reference: Any = None,
    sample: int | None = None,
    severity: Mapping[str, str] | None = None,
) -> ValidationReport:
    """Return the report of a stored value, for a user's validator, which takes it as its step returned it."""
    return run_validator(validator, table, reference, sample=sample, severity=severity)


_COMMON = ("not_empty", "column_exists", "reference_schema")
"""The names of our own checks, which are made for each validator."""


def run_one(validator: Validator, table: Any, reference: Any, sample: int) -> ValidationReport:
    """Return the report of one validator; `sample` is the number of rows that it checks, 0 for all."""
    try:
        prepared = _prepare(validator, table, reference, sample)
    except InputError as error:
        return ValidationReport(validator.title, (Check(name="is_table", passed=False, message=str(error)),))
    report = _call(validator, prepared) if prepared.rows != 0 else ValidationReport(validator.title)
    known = {check.column for check in report.checks if not check.passed}
    facts = [fact for fact in prepared.facts if fact.name != "column_exists" or fact.column not in known]
    rows = prepared.rows if report.rows is None else report.rows
    statistics = describe_sample(prepared.sampled, rows) | dict(report.statistics)
    return replace(report, checks=(*facts, *report.checks), rows=rows, sampled=prepared.sampled, statistics=statistics)


def _batches(value: Any) -> Any:
    from airflow_zen.validation.tables import to_batches

    return to_batches(value)


class _Prepared(msgspec.Struct, frozen=True):
    """The arguments of `check`, what the table itself fails, and the numbers of rows of the table and of the sample."""

    table: Any
    reference: Any
    facts: list[Check]
    rows: int | None
    sampled: int | None


def _prepare(validator: Validator, table: Any, reference: Any, sample: int) -> _Prepared:
    if validator.form == "stored":
        rows = _row_count(table)
        return _Prepared(table, reference, [] if rows is None else [not_empty(rows)], rows, None)
    batches, other = _batches(table), None if reference is None else _batches(reference)
    rows = batches.rows
    facts = [not_empty(rows), *column_checks(validator, batches.schema, other.schema if other else None)]
    is_sampled = validator.form != "batches" and 0 < sample < rows
    shaped, beside = (None if each is None else _shape(each, validator.form, sample) for each in (batches, other))
    return _Prepared(shaped, beside, facts, rows, sample if is_sampled else None)


def column_checks(validator: Validator, schema: Any, reference: Any) -> Iterator[Check]:
    """Yield a failed check for each column that is missing, here or in the reference, or of another kind there."""
    from airflow_zen.validation.tables import data_columns, type_kind, type_text

    named, compared = validator.columns(), validator.compared_columns()
    for name in dict.fromkeys(data_columns(schema) if named is None else named):
        if name not in schema.names:
            expected = f"one of {', '.join(data_columns(schema))}"
            yield Check(name="column_exists", passed=False, column=name, observed="missing", expected=expected)
        elif reference is None or (compared is not None and name not in compared):
            continue
        elif name not in reference.names:
            message = f"The reference has no such column.{_common_columns(validator, schema, reference)}"
            yield Check(name="reference_schema", passed=False, column=name, observed="missing", message=message)
        elif type_kind(schema.field(name)) != type_kind(reference.field(name)):
            observed, expected = type_text(schema.field(name)), type_text(reference.field(name))
            yield Check(name="reference_schema", passed=False, column=name, observed=observed, expected=expected)


def _common_columns(validator: Validator, schema: Any, reference: Any) -> str:
    """Return how a validator that looks at all columns is told to compare those that both tables have."""
    from airflow_zen.validation.tables import data_columns

    common = tuple(name for name in data_columns(schema) if name in reference.names)
    if validator.columns() is not None or not hasattr(validator, "only") or not common:
        return ""
    return f" Compare those that both have: {type(validator).__name__}(…, only={common!r})."


def _shape(batches: Any, form: Form, sample: int) -> Any:
    from airflow_zen.validation.tables import index_columns, to_arrow, to_frame

    if form == "batches":
        return batches
    rows = batches.rows
    taken = sampled_rows(rows, sample) if 0 < sample < rows else []
    table = batches.take(taken) if taken else to_arrow(batches.source)
    if form == "pandas":
        frame = to_frame(table)
        # The labels of failing rows are their numbers in the whole table.
        return frame.set_axis(taken) if taken and not index_columns(table.schema) else frame
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
            f"No validator is registered as {name!r}; registered are {known}. Install the distribution that offers it "
            f"as an entry point of the group {ENTRY_POINT_GROUP!r}."
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
