"""One pass over the batches of a table for many checks, and the failing rows that they collect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from airflow_zen.validation.report import MAX_SAMPLED_ROWS, Check, FailingRow
from airflow_zen.validation.tables import index_columns, type_text


class Batch(msgspec.Struct, frozen=True):
    """A record batch, with the number of its first row in the table and the columns that label its rows."""

    data: pa.RecordBatch
    start: int
    labels: Sequence[str] = ()

    def column(self, name: str) -> pa.Array:
        """Return a column, with the values of a dictionary instead of their codes."""
        found = self.data.column(name)
        return found.dictionary_decode() if pa.types.is_dictionary(found.type) else found

    def label(self, at: int) -> str:
        """Return the label of a row: what the index of its pandas frame has, else its number in the table."""
        if not self.labels:
            return str(self.start + at)
        return ", ".join(value_text(self.data.column(name)[at]) for name in self.labels)


class FailingRows:
    """Count the rows that fail a check, and keep the first 20 of them."""

    def __init__(self) -> None:
        self.count = 0
        self.sample: list[FailingRow] = []

    def add(self, batch: Batch, failing: pa.Array, columns: Sequence[str]) -> None:
        """Add the rows where `failing` is true, with their values in some columns."""
        count = failing.true_count
        if count and len(self.sample) < MAX_SAMPLED_ROWS:
            wanted = pc.indices_nonzero(failing)[: MAX_SAMPLED_ROWS - len(self.sample)].to_pylist()
            for at in wanted:
                value = ", ".join(value_text(batch.column(name)[at]) for name in columns)
                self.sample.append(FailingRow(batch.label(at), value))
        self.count += count


class Scan:
    """What one check computes during a pass over the batches of a table."""

    def __init__(self, check: Any, schema: pa.Schema, reference: Any) -> None:
        self.check, self.schema, self.reference = check, schema, reference
        self.columns: list[str] = list(check.columns())
        self.begin()

    def begin(self) -> None:
        """Prepare the pass."""

    def update(self, batch: Batch) -> None:
        """Take the next batch, which has the columns of all scans."""

    def finish(self, rows: int) -> Iterable[Check]:
        """Return the outcomes after the last batch; `rows` is the number of rows of the table."""
        raise NotImplementedError


class TableScan:
    """The scans of several checks over one table, to which its batches are given one by one.

    A check of which a column is missing is left out; an error of a check is its failed outcome.
    """

    def __init__(self, checks: Iterable[Any], schema: pa.Schema, reference: Any = None) -> None:
        self.schema, self._labels = schema, index_columns(schema)
        self._errors: dict[int, Exception] = {}
        self._checks = [check for check in checks if all(name in schema.names for name in check.columns())]
        self._scans: dict[int, Scan] = {}
        for number, check in enumerate(self._checks):
            self._guard(number, partial(self._begin, number, check, reference))
        self.rows = 0

    @property
    def columns(self) -> list[str]:
        """The columns that the scans read, with those that label rows; empty where only the number of rows matters."""
        read = [name for scan in self._scans.values() for name in scan.columns]
        return list(dict.fromkeys([*read, *self._labels])) if read else []

    def update(self, data: pa.RecordBatch) -> None:
        """Give the next batch to each scan."""
        batch = Batch(data, self.rows, self._labels)
        for number, scan in self._scans.items():
            if number not in self._errors:
                self._guard(number, partial(scan.update, batch))
        self.rows += data.num_rows

    def finish(self, rows: int) -> list[Check]:
        """Return the outcomes of all checks."""
        found: list[Check] = []
        for number, scan in self._scans.items():
            if number not in self._errors:
                self._guard(number, partial(_extend, found, scan, rows))
        for number, error in self._errors.items():
            observed = self._observed_types(self._checks[number])
            message = f"{type(error).__name__}: {error}"
            found.append(self._checks[number].outcome(False, observed=observed, message=message))
        return found

    def _begin(self, number: int, check: Any, reference: Any) -> None:
        self._scans[number] = check.begin(self.schema, reference)

    def _guard(self, number: int, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - Arrow's errors have no common base with NumPy's
            self._errors[number] = error

    def _observed_types(self, check: Any) -> str:
        return ", ".join(type_text(self.schema.field(name)) for name in check.columns())


def _extend(found: list[Check], scan: Scan, rows: int) -> None:
    found += scan.finish(rows)


def value_text(scalar: Any) -> str:
    """Return an Arrow scalar as text; `null` for a missing value."""
    if not scalar.is_valid:
        return "null"
    try:
        return str(scalar.as_py())
    except (ValueError, ImportError):
        return str(scalar)  # nanoseconds, which Python's own types do not have


def is_missing(column: pa.Array) -> pa.Array:
    """Return where a column is null or NaN."""
    return pc.is_null(column, nan_is_null=True)
