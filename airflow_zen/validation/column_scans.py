"""The computations of checks of one column."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_zen.validation.report import Check
from airflow_zen.validation.table_scan import Batch, FailingRows, Scan, is_missing, value_text
from airflow_zen.validation.tables import data_columns, type_kind, type_text


class NullScan(Scan):
    """Count null and NaN."""

    def begin(self) -> None:
        """Begin with no failing row."""
        self.failing = FailingRows()

    def update(self, batch: Batch) -> None:
        """Count those of a batch."""
        self.failing.add(batch, is_missing(batch.column(self.check.column)), self.columns)

    def finish(self, rows: int) -> Iterable[Check]:
        """Compare their share."""
        count = self.failing.count
        passed = count <= self.check.max_share * rows
        return [
            self.check.outcome(passed, observed=f"{count} null ({count / max(rows, 1):.2%})", **_failing(self, passed))
        ]


class ValueScan(Scan):
    """Count the values of a column that a subclass does not allow; without any value the check fails."""

    def begin(self) -> None:
        """Begin with no failing row."""
        self.failing, self.values = FailingRows(), 0

    def is_failing(self, column: pa.Array) -> pa.Array:
        """Return which values are not allowed; null where one is missing."""
        raise NotImplementedError

    def observed(self) -> str:
        """Return what was observed, as text."""
        return f"{self.failing.count} other values"

    def update(self, batch: Batch) -> None:
        """Count those of a batch."""
        column = batch.column(self.check.column)
        present = pc.invert(is_missing(column))
        self.values += present.true_count
        if present.true_count:
            failing = pc.and_(present, pc.fill_null(self.is_failing(column), False))
            self.failing.add(batch, failing, self.columns)

    def finish(self, rows: int) -> Iterable[Check]:
        """Return the outcome."""
        if not self.values:
            return [self.check.outcome(False, observed="no values")]
        passed = not self.failing.count
        return [self.check.outcome(passed, observed=self.observed(), **_failing(self, passed))]


class RangeScan(ValueScan):
    """Compare numbers and times with limits."""

    def begin(self) -> None:
        """Refuse other columns."""
        super().begin()
        self.lowest: Any = None
        self.highest: Any = None
        if type_kind(self.schema.field(self.check.column)) not in ("number", "time", "null"):
            raise TypeError("A range is one of numbers or times.")

    def is_failing(self, column: pa.Array) -> pa.Array:
        """Return which values are outside of the range."""
        bounds = pc.min_max(column)
        self.lowest = _least(self.lowest, bounds["min"], pc.less)
        self.highest = _least(self.highest, bounds["max"], pc.greater)
        below = pc.less(column, _limit(self.check.min, column.type)) if self.check.min is not None else None
        above = pc.greater(column, _limit(self.check.max, column.type)) if self.check.max is not None else None
        if below is None or above is None:
            return above if below is None else below
        return pc.or_(below, above)

    def observed(self) -> str:
        """Return the range of the values."""
        return f"from {value_text(self.lowest)} to {value_text(self.highest)}"


class AllowedValuesScan(ValueScan):
    """Look values up in a set."""

    def begin(self) -> None:
        """Convert the values to the column's type."""
        super().begin()
        self.others: dict[str, None] = {}
        field = self.schema.field(self.check.column).type
        kind = field.value_type if pa.types.is_dictionary(field) else field
        self.allowed = pa.array(self.check.values, None if pa.types.is_null(kind) else kind)

    def is_failing(self, column: pa.Array) -> pa.Array:
        """Return which values are not in the set."""
        other = pc.invert(pc.is_in(column, self.allowed))
        if len(self.others) < 5:
            present = pc.and_(other, pc.invert(is_missing(column)))
            self.others.update(dict.fromkeys(map(value_text, pc.unique(column.filter(present))[:5])))
        return other

    def observed(self) -> str:
        """Return some of the values that are not in the set."""
        return f"also {', '.join([*self.others][:5])}" if self.others else "no other value"


class TypeScan(Scan):
    """Compare the type of a column; the values are not read."""

    def begin(self) -> None:
        """Read no column."""
        self.columns = []

    def finish(self, rows: int) -> Iterable[Check]:
        """Compare Arrow's name of the type, an alias of it, and its kind."""
        field, wanted = self.schema.field(self.check.column), self.check.type
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        passed = wanted in (str(field.type), str(kind), type_kind(field)) or _has_alias(kind, wanted)
        return [self.check.outcome(passed and type_kind(field) != "mixed", observed=type_text(field))]


class FreshScan(Scan):
    """Find the newest time."""

    def begin(self) -> None:
        """Refuse a column of other values."""
        self.newest: Any = None
        kind = self.schema.field(self.check.column).type
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
            raise TypeError("A column of times or dates is needed.")

    def update(self, batch: Batch) -> None:
        """Compare with the newest of a batch."""
        self.newest = _least(self.newest, pc.max(batch.column(self.check.column)), pc.greater)

    def finish(self, rows: int) -> Iterable[Check]:
        """Compare its age."""
        if self.newest is None:
            return [self.check.outcome(False, observed="no values")]
        newest = self.newest.cast(pa.timestamp("us", getattr(self.newest.type, "tz", None))).as_py()
        age = _in_utc(self.check.at or datetime.now(UTC)) - _in_utc(newest)
        return [self.check.outcome(age <= self.check.max_age, observed=f"{age} old, at {newest}")]


class ConstantScan(Scan):
    """Find columns whose rows all have one value, or none."""

    def begin(self) -> None:
        """Read all columns where none is named."""
        self.columns = self.columns or data_columns(self.schema)
        self.first: dict[str, pa.Scalar] = {}
        self.varying: set[str] = set()

    def update(self, batch: Batch) -> None:
        """Compare the values of a batch with the first."""
        for name in self.columns:
            if name not in self.varying and batch.data.num_rows:
                column = batch.column(name)
                first = self.first.setdefault(name, column[0])
                if not _is_all(column, first):
                    self.varying.add(name)

    def finish(self, rows: int) -> Iterable[Check]:
        """Return a failed outcome for each constant column; one outcome that passed where there is none."""
        constant = [name for name in self.columns if name not in self.varying]
        failed = [
            self.check.outcome(False, column=name, observed=f"only {value_text(self.first[name])}") for name in constant
        ]
        return failed or [self.check.outcome(True, observed=f"{len(self.columns)} columns with several values")]


def _failing(scan: Any, passed: bool) -> dict[str, Any]:
    return {"failing": scan.failing.count, "sample": () if passed else tuple(scan.failing.sample)}


def _least(known: Any, found: pa.Scalar, comes_first: Any) -> Any:
    """Return which of two scalars comes first; None is no scalar yet."""
    if not found.is_valid:
        return known
    return found if known is None or comes_first(found, known).as_py() else known


def _limit(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Return a limit to compare with a column: of the column's type where that is a time."""
    if not pa.types.is_temporal(kind):
        return pa.scalar(value)
    if pa.types.is_timestamp(kind):
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        has_zone = getattr(moment, "tzinfo", None) is not None
        if kind.tz and not has_zone and isinstance(moment, datetime):
            moment = moment.replace(tzinfo=UTC)
        return pa.scalar(moment, kind)
    return pa.scalar(value).cast(kind)


def _has_alias(kind: pa.DataType, wanted: str) -> bool:
    """Whether a type is meant by another name of it, such as `float64` of `double`."""
    try:
        return bool(pa.type_for_alias(wanted) == kind)
    except ValueError:
        return False


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_all(column: pa.Array, first: pa.Scalar) -> bool:
    """Whether all values of a column equal one; missing values are equal."""
    if not first.is_valid or first.as_py() != first.as_py():
        return bool(pc.all(is_missing(column)).as_py())
    if pa.types.is_nested(column.type):
        return all(item == first for item in column)
    return bool(pc.all(pc.fill_null(pc.equal(column, first), False)).as_py())
