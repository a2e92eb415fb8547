"""The computations of checks of whole rows: counts, schemas, repeated rows and rows of two tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from airflow_zen.validation.report import Check
from airflow_zen.validation.row_hashes import HashSet, hash_rows
from airflow_zen.validation.table_scan import Batch, FailingRows, Scan, is_missing
from airflow_zen.validation.tables import data_columns, type_kind, type_text

_NO_REFERENCE = "There is no previous version, and no reference to compare with."


class RowCountScan(Scan):
    """Compare the number of rows."""

    def finish(self, rows: int) -> Iterable[Check]:
        """Return the outcome."""
        passed = self.check.min <= rows and (self.check.max is None or rows <= self.check.max)
        return [self.check.outcome(passed, observed=f"{rows} rows")]


class RowCountChangeScan(Scan):
    """Compare the number of rows with that of the reference."""

    def finish(self, rows: int) -> Iterable[Check]:
        """Return the outcome; the check passes without a reference."""
        if self.reference is None:
            return [self.check.outcome(True, observed=f"{rows} rows", message=_NO_REFERENCE)]
        before = self.reference.rows
        change = abs(rows - before) / max(before, 1)
        observed = f"{rows} rows, {before} in the reference ({(rows - before) / max(before, 1):+.1%})"
        passed = change <= self.check.max_share
        return [self.check.outcome(passed, observed=observed, value=change, threshold=self.check.max_share)]


class SchemaScan(Scan):
    """Compare names and types of columns."""

    def finish(self, rows: int) -> Iterable[Check]:
        """Return a failed outcome for each difference, or one that passed; it passes without a reference."""
        if self.reference is None:
            return [self.check.outcome(True, message=_NO_REFERENCE)]
        now, before = ({name: type_text(each.field(name)) for name in data_columns(each)} for each in self._schemas())
        differing = [name for name in dict.fromkeys([*before, *now]) if now.get(name) != before.get(name)]
        return [
            self.check.outcome(
                False, column=name, observed=now.get(name, "missing"), expected=before.get(name, "no such column")
            )
            for name in differing
        ] or [self.check.outcome(True, observed=f"{len(now)} columns")]

    def _schemas(self) -> tuple[pa.Schema, pa.Schema]:
        return self.schema, self.reference.schema


class DuplicateScan(Scan):
    """Count rows whose values have been seen before."""

    def begin(self) -> None:
        """Begin with no row seen."""
        self.is_key = bool(self.columns)
        self.columns = self.columns or data_columns(self.schema)
        self.failing, self.seen, self.values = FailingRows(), HashSet(), 0

    def update(self, batch: Batch) -> None:
        """Look the rows of a batch up among those before, and add them."""
        columns = [batch.column(name) for name in self.columns]
        hashes = hash_rows(columns)
        looked_at = np.ones(len(hashes), bool)
        if self.is_key:
            for column in columns:
                looked_at &= ~np.asarray(is_missing(column))
        self.values += int(looked_at.sum())
        repeated = np.zeros(len(hashes), bool)
        repeated[looked_at] = self.seen.add(hashes[looked_at])
        self.failing.add(batch, pa.array(repeated), self.columns)

    def finish(self, rows: int) -> Iterable[Check]:
        """Compare the number of repetitions."""
        count = self.failing.count
        if not self.values:
            return [self.check.outcome(False, observed="no values")]
        passed = count <= getattr(self.check, "max_share", 0.0) * rows
        sample = () if passed else tuple(self.failing.sample)
        observed = f"{count} repeated ({count / max(rows, 1):.2%})"
        return [self.check.outcome(passed, observed=observed, failing=count, sample=sample)]


class OverlapScan(Scan):
    """Count rows that are in the reference too."""

    def begin(self) -> None:
        """Read the reference, in the columns that both tables have with values of one kind."""
        self.failing, self.known = FailingRows(), HashSet()
        if self.reference is None:
            raise ValueError("A reference is needed: validate(test, NoOverlap(), reference=train).")
        other = self.reference.schema
        named = self.columns or [name for name in data_columns(self.schema) if name in other.names]
        self.columns = [name for name in named if _has_same_kind(self.schema, other, name)]
        if not self.columns or len(self.columns) < len(self.check.on):
            raise ValueError("The tables have no column in common, or not those of on=….")
        for data in self.reference(self.columns):
            batch = Batch(data, 0)
            self.known.add(hash_rows([batch.column(name) for name in self.columns]))

    def update(self, batch: Batch) -> None:
        """Look the rows of a batch up."""
        hashes = hash_rows([batch.column(name) for name in self.columns])
        self.failing.add(batch, pa.array(self.known.contains(hashes)), self.columns)

    def finish(self, rows: int) -> Iterable[Check]:
        """Compare the number of rows in both."""
        count = self.failing.count
        share = count / max(rows, 1)
        passed = share <= self.check.max_share
        sample = () if passed else tuple(self.failing.sample)
        observed = f"{count} rows of the reference ({share:.2%})"
        return [self.check.outcome(passed, observed=observed, failing=count, sample=sample)]


def _has_same_kind(schema: pa.Schema, other: pa.Schema, name: str) -> bool:
    return name in other.names and type_kind(schema.field(name)) == type_kind(other.field(name))
