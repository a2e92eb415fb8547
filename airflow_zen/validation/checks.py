"""Built-in checks of tables, made batch by batch in one pass, with no library but Arrow and NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.base import Form, Validator
from airflow_zen.validation.report import Check, ValidationReport, validate_severity

if TYPE_CHECKING:
    from airflow_zen.validation.table_scan import Scan


@dataclass(frozen=True, kw_only=True)
class TableCheck(Validator):
    """One built-in check; with `severity="warning"` its failure does not fail the report.

    `name` is that of its outcome, `scan` the class that computes it as `module:Class`.
    """

    form: ClassVar[Form] = "batches"
    name: ClassVar[str]
    scan: ClassVar[str]
    severity: str = "error"

    def __post_init__(self) -> None:
        """Raise `ValidationDefinitionError` for an option that no table could meet."""
        validate_severity(self.severity)

    @property
    def expected(self) -> str:
        """What the check expects, as text."""
        return ""

    def columns(self) -> Iterable[str]:
        """Return the columns that the check names."""
        column = getattr(self, "column", None)
        return [column] if column else []

    def begin(self, schema: Any, reference: Any = None) -> Scan:
        """Return what computes the check during one pass over a table of this schema.

        `reference` is the table to compare with, as `Batches`; None without one.
        """
        module, _, name = self.scan.partition(":")
        made: Scan = getattr(import_module(f"airflow_zen.validation.{module}"), name)(self, schema, reference)
        return made

    def outcome(self, passed: bool, **facts: Any) -> Check:
        """Return an outcome of the check."""
        known = {"name": self.name, "column": getattr(self, "column", "") or "", "expected": self.expected}
        return Check(**{**known, "severity": self.severity, "passed": passed, **facts})

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Make the check alone."""
        return Suite((self,)).check(table, reference)


@dataclass(frozen=True)
class Suite(Validator):
    """Several built-in checks, made in one pass over the table."""

    checks: tuple[TableCheck, ...]
    form: ClassVar[Form] = "batches"

    @property
    def compares(self) -> bool:  # type: ignore[override]
        """Whether one of the checks uses a reference."""
        return any(check.compares for check in self.checks)

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        """Whether one of the checks cannot be made without a reference."""
        return any(check.needs_reference for check in self.checks)

    @property
    def is_reproducible(self) -> bool:  # type: ignore[override]
        """Whether each of the checks is."""
        return all(check.is_reproducible for check in self.checks)

    @property
    def title(self) -> str:
        """The name that reports show."""
        return "built-in checks"

    def columns(self) -> Iterable[str]:
        """Return the columns that the checks name."""
        return [name for check in self.checks for name in check.columns()]

    def compared_columns(self) -> Iterable[str]:
        """Return the columns of the checks that compare."""
        return [name for check in self.checks if check.compares for name in check.columns()]

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Make the checks whose columns the table has."""
        from airflow_zen.validation.table_scan import TableScan

        scan = TableScan(self.checks, table.schema, reference)
        if columns := scan.columns:
            for batch in table(columns):
                scan.update(batch)
        rows = scan.rows if columns else table.rows
        return ValidationReport(self.title, tuple(scan.finish(rows)), rows)


@dataclass(frozen=True)
class NotNull(TableCheck):
    """At most `max_share` of a column's values are null or NaN; by default none is."""

    column: str
    max_share: float = 0.0
    name: ClassVar[str] = "not_null"
    scan: ClassVar[str] = "column_scans:NullScan"

    def __post_init__(self) -> None:
        """Refuse a share that is not below 1."""
        super().__post_init__()
        _require(0 <= self.max_share < 1, self, "a max_share of at least 0 and below 1")

    @property
    def expected(self) -> str:
        """The share of nulls that is allowed."""
        return f"at most {self.max_share:.2%} null" if self.max_share else "no null"


@dataclass(frozen=True)
class InRange(TableCheck):
    """The values of a column, numbers or times, are at least `min` and at most `max`; nulls are ignored."""

    column: str
    min: Any = None
    max: Any = None
    name: ClassVar[str] = "in_range"
    scan: ClassVar[str] = "column_scans:RangeScan"

    def __post_init__(self) -> None:
        """Refuse a range without a limit, or of no value."""
        super().__post_init__()
        _require(self.min is not None or self.max is not None, self, "min=… or max=…")
        is_empty = self.min is not None and self.max is not None and self.min > self.max
        _require(not is_empty, self, "a min that is not above max")

    @property
    def expected(self) -> str:
        """The range."""
        return _range_text(self.min, self.max)


@dataclass(frozen=True)
class AllowedValues(TableCheck):
    """The values of a column are among `values`; nulls are ignored."""

    column: str
    values: tuple[Any, ...]
    name: ClassVar[str] = "allowed_values"
    scan: ClassVar[str] = "column_scans:AllowedValuesScan"

    def __post_init__(self) -> None:
        """Take any iterable of values, sets in order."""
        super().__post_init__()
        given: Any = self.values
        _require(not isinstance(given, str) and len(given) > 0, self, "values in a list")
        values = sorted(given, key=repr) if isinstance(given, set | frozenset) else given
        object.__setattr__(self, "values", tuple(values))

    @property
    def expected(self) -> str:
        """The values."""
        return f"one of {', '.join(map(repr, self.values))}"


@dataclass(frozen=True)
class HasType(TableCheck):
    """A column has a type: Arrow's name of it, such as `int64`, or `number`, `text`, `boolean` or `time`."""

    column: str
    type: str
    name: ClassVar[str] = "has_type"
    scan: ClassVar[str] = "column_scans:TypeScan"

    @property
    def expected(self) -> str:
        """The type."""
        return self.type


@dataclass(frozen=True)
class Fresh(TableCheck):
    """The newest value of a column of times is at most `max_age` old, at the time `at`, by default when the check runs.

    Times without a zone are UTC. Without `at` the outcome depends on when the check runs, so that a step with it is not
    cached.
    """

    column: str
    max_age: timedelta
    at: datetime | None = None
    name: ClassVar[str] = "fresh"
    scan: ClassVar[str] = "column_scans:FreshScan"

    @property
    def is_reproducible(self) -> bool:  # type: ignore[override]
        """Whether the time is given."""
        return self.at is not None

    @property
    def expected(self) -> str:
        """The age."""
        return f"at most {self.max_age} old"


@dataclass(frozen=True)
class NotConstant(TableCheck):
    """A column has more than one value; without `column`, each column has, and each that has not is an outcome."""

    column: str | None = None
    name: ClassVar[str] = "not_constant"
    scan: ClassVar[str] = "column_scans:ConstantScan"

    @property
    def expected(self) -> str:
        """The number of values."""
        return "more than one value"


@dataclass(frozen=True)
class Unique(TableCheck):
    """No two rows have the same values in a column, or in a tuple of columns; rows with a null there are ignored.

    Rows are compared by hashes of 64 bits, which take 8 bytes of memory for each row.
    """

    column: str | tuple[str, ...]
    name: ClassVar[str] = "unique"
    scan: ClassVar[str] = "row_scans:DuplicateScan"

    def columns(self) -> Iterable[str]:
        """Return the columns that are unique together."""
        return [self.column] if isinstance(self.column, str) else list(self.column)

    @property
    def expected(self) -> str:
        """The number of repetitions."""
        return "no repeated value"

    def outcome(self, passed: bool, **facts: Any) -> Check:
        """Return an outcome of the check; several columns are one text."""
        return super().outcome(passed, **{"column": ", ".join(self.columns()), **facts})


@dataclass(frozen=True)
class NoDuplicateRows(TableCheck):
    """No row is repeated; at most `max_share` of the rows are."""

    max_share: float = 0.0
    name: ClassVar[str] = "no_duplicate_rows"
    scan: ClassVar[str] = "row_scans:DuplicateScan"

    @property
    def expected(self) -> str:
        """The share of repetitions that is allowed."""
        return f"at most {self.max_share:.2%} repeated rows" if self.max_share else "no repeated row"


@dataclass(frozen=True)
class RowCount(TableCheck):
    """The table has at least `min` and at most `max` rows."""

    min: int = 1
    max: int | None = None
    name: ClassVar[str] = "row_count"
    scan: ClassVar[str] = "row_scans:RowCountScan"

    def __post_init__(self) -> None:
        """Refuse a range of no number."""
        super().__post_init__()
        _require(self.min >= 0 and (self.max is None or self.max >= self.min), self, "a max that is not below min")

    @property
    def expected(self) -> str:
        """The range."""
        return f"{_range_text(self.min, self.max)} rows"


@dataclass(frozen=True)
class RowCountChange(TableCheck):
    """The number of rows differs from that of the reference by at most `max_share` of it."""

    max_share: float = 0.5
    name: ClassVar[str] = "row_count_change"
    scan: ClassVar[str] = "row_scans:RowCountChangeScan"
    compares: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    @property
    def expected(self) -> str:
        """The change that is allowed."""
        return f"at most {self.max_share:.0%} more or fewer rows"


@dataclass(frozen=True)
class SameSchema(TableCheck):
    """The table has the columns of the reference, with their types; the order does not matter.

    The reference is the previous version of the artifact where the check is declared on one.
    """

    name: ClassVar[str] = "same_schema"
    scan: ClassVar[str] = "row_scans:SchemaScan"
    compares: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    @property
    def expected(self) -> str:
        """The schema."""
        return "the columns and types of the reference"


@dataclass(frozen=True)
class NoOverlap(TableCheck):
    """No row of the table is in the reference: test data has no row of the training data.

    Rows are compared in `on`, by default in the columns that both tables have, by hashes of 64 bits, which take 8 bytes
    of memory for each row of the reference.
    """

    on: tuple[str, ...] = ()
    max_share: float = 0.0
    name: ClassVar[str] = "no_overlap"
    scan: ClassVar[str] = "row_scans:OverlapScan"
    compares: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    def columns(self) -> Iterable[str]:
        """Return the columns that are compared."""
        return self.on

    @property
    def expected(self) -> str:
        """The share of rows that may be in both."""
        return f"at most {self.max_share:.2%} rows of the reference" if self.max_share else "no row of the reference"


@dataclass(frozen=True, kw_only=True)
class Hint(TableCheck):
    """A built-in check whose failure is a warning unless its severity says otherwise."""

    severity: str = "warning"


@dataclass(frozen=True)
class NoTargetLeakage(Hint):
    """No column predicts the target nearly alone: a hint that it is computed from the target.

    The association of a column with the target is the absolute correlation (Pearson) where both are numbers, and the
    correlation ratio (eta) where the column has at most 1000 other values. A target of text is taken class by class,
    for its first 20 classes. The outcome is one for each column whose association is at least `threshold`.
    """

    column: str
    threshold: float = 0.98
    name: ClassVar[str] = "no_target_leakage"
    scan: ClassVar[str] = "target_leakage:LeakageScan"

    @property
    def expected(self) -> str:
        """The association that is allowed."""
        return f"an association below {self.threshold}"


def _require(is_valid: bool, check: TableCheck, wanted: str) -> None:
    if not is_valid:
        raise ValidationDefinitionError(f"{type(check).__name__} takes {wanted}, got {asdict(check)!r}.")


def _range_text(low: Any, high: Any) -> str:
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"from {low} to {high}"
