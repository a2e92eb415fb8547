"""`ValidationReport`: what a validator found, in one shape for every library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import force_setattr, replace

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.markup import text_table

SEVERITIES = ("error", "warning")
MAX_SAMPLED_ROWS = 20
"""The number of failing rows that a check keeps."""

_MAX_TEXT = 300
_MAX_CELL = 60
_MAX_FAILURES = 20


class FailingRow(msgspec.Struct, frozen=True):
    """One row that failed a check: its label, or its number where the table has no index, and its value as text."""

    label: str
    value: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one check.

    name: what was checked, such as `not_null`. column: the column it is about; empty for the table. severity: `error`
    fails the report, `warning` does not. observed, expected: short texts. failing: the number of failing rows, None for
    a check that is not about rows. sample: at most 20 of them. A statistical verdict has its method, the value of its
    statistic and the threshold. message: what else a reader needs, such as the error of a library. validator: whose
    check it is, in a report of several validators.
    """

    name: str
    passed: bool
    column: str = ""
    severity: str = "error"
    observed: str = ""
    expected: str = ""
    failing: int | None = None
    sample: tuple[FailingRow, ...] = ()
    method: str = ""
    value: float | None = None
    threshold: float | None = None
    message: str = ""
    validator: str = ""

    def __post_init__(self) -> None:
        """Cut texts and samples to their limits; raise `ValidationDefinitionError` for an unknown severity."""
        validate_severity(self.severity)
        for field in ("observed", "expected", "message", "method"):
            force_setattr(self, field, _shorten(str(getattr(self, field)), _MAX_TEXT))
        rows = (
            FailingRow(_shorten(str(row.label), _MAX_CELL), _shorten(str(row.value), _MAX_CELL)) for row in self.sample
        )
        force_setattr(self, "sample", tuple(row for row, _ in zip(rows, range(MAX_SAMPLED_ROWS), strict=False)))
        force_setattr(self, "passed", bool(self.passed))
        for field in ("value", "threshold"):
            number = getattr(self, field)
            force_setattr(self, field, None if number is None else float(number))

    @property
    def title(self) -> str:
        """The name with the column: `not_null(dep_delay)`."""
        return f"{self.name}({self.column})" if self.column else self.name

    @property
    def is_failure(self) -> bool:
        """Whether it fails the report."""
        return not self.passed and self.severity == "error"


class ValidationReport(msgspec.Struct, frozen=True):
    """What a validator found in a table or a model.

    validator: its name with the version of its library, such as `pandera 0.35.0`. checks: one for each thing that was
    checked; a list becomes a tuple. rows: the number of rows of the table. sampled: how many of them were checked, None
    for all. statistics: figures to show, as JSON by name. metrics: numbers for MLflow by name, such as `drift.share`.
    files: what the library itself made, by file name, such as its HTML page or a profile.
    """

    validator: str
    checks: tuple[Check, ...] = ()
    rows: int | None = None
    sampled: int | None = None
    statistics: Mapping[str, Any] = msgspec.field(default_factory=dict)
    metrics: Mapping[str, float] = msgspec.field(default_factory=dict)
    files: Mapping[str, bytes] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take any iterable of checks."""
        force_setattr(self, "checks", tuple(self.checks))

    @property
    def passed(self) -> bool:
        """Whether no check of severity `error` failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The failed checks of severity `error`."""
        return tuple(check for check in self.checks if check.is_failure)

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The failed checks of severity `warning`."""
        return tuple(check for check in self.checks if not check.passed and not check.is_failure)

    def check(self, name: str, column: str = "") -> Check:
        """Return the check of a name, and of a column; raise `LookupError` if there is none."""
        for found in self.checks:
            if found.name == name and column in ("", found.column):
                return found
        raise LookupError(
            f"No check {name!r} for {column or 'any column'!r}. There are {[c.title for c in self.checks]}."
        )

    def with_severities(self, severities: Mapping[str, str]) -> ValidationReport:
        """Return the report with the severities of checks by name, by column, or by title, `not_null(dep_delay)`.

        Raises `ValidationDefinitionError` for one that is neither `error` nor `warning`.
        """
        for severity in severities.values():
            validate_severity(severity)

        def chosen(check: Check) -> Check:
            names = [name for name in (check.title, check.column, check.name) if name in severities]
            return replace(check, severity=severities[names[0]]) if names else check

        return replace(self, checks=tuple(map(chosen, self.checks)))

    def facts(self) -> dict[str, float]:
        """Return the numbers that MLflow shows as metrics."""
        counts = {"checks": len(self.checks), "failed": len(self.failures), "warnings": len(self.warnings)}
        found = {f"validation.{name}": float(count) for name, count in counts.items()}
        if self.rows is not None:
            found["validation.rows"] = float(self.rows)
        if self.sampled is not None:
            found["validation.sampled"] = float(self.sampled)
        return found | {name: float(value) for name, value in self.metrics.items()}

    def summary(self) -> dict[str, Any]:
        """Return the summary that is stored beside the report, as JSON."""
        failed = [*self.failures, *self.warnings]
        return {"passed": self.passed, "facts": self.facts(), "failures": failure_rows(failed[:_MAX_FAILURES])}

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "failed"
        rows = "" if self.rows is None else f", {counted(self.rows, 'row')}"
        sampled = "" if self.sampled is None else f" ({self.sampled} checked)"
        return (
            f"{self.validator}: {verdict}, {len(self.failures)} of {counted(len(self.checks), 'check')} failed, "
            f"{counted(len(self.warnings), 'warning')}{rows}{sampled}"
        )


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, which is plural unless there is one: `1 check`, `2,000 checks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def describe_sample(sampled: int | None, rows: int | None) -> dict[str, str]:
    """Return the statistic that says which rows were checked; none if all were."""
    if sampled is None:
        return {}
    return {"sample": f"{sampled:,} of {rows:,} rows, drawn at random with seed 0"}


_FAILURE_HEADER = ("check", "column", "severity", "observed", "expected", "rows")


def failure_rows(failed: Iterable[Check]) -> list[list[str]]:
    """Return failed checks as the rows of a short table."""
    return [
        [
            check.name,
            check.column,
            check.severity,
            _shorten(check.observed or check.message, _MAX_CELL),
            _shorten(check.expected, _MAX_CELL),
            "" if check.failing is None else str(check.failing),
        ]
        for check in failed
    ]


def failure_table(rows: Iterable[Iterable[str]]) -> str:
    """Return the rows of `failure_rows` as lines of text under a header."""
    return text_table(_FAILURE_HEADER, [tuple(row) for row in rows])


def validate_severity(severity: str) -> str:
    """Return a valid severity, or raise `ValidationDefinitionError`."""
    if severity not in SEVERITIES:
        raise ValidationDefinitionError(f"A severity is 'error' or 'warning', got {severity!r}.")
    return severity


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
