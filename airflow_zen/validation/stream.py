"""The pass over a stream whose batches are checked while somebody else reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_zen.errors import InputError
from airflow_zen.validation.report import Check
from airflow_zen.validation.scan import TableScan
from airflow_zen.validation.tables import BATCH_ROWS, to_arrow, to_batches, to_frame


class StreamScan:
    """Give each batch to the scans of built-in checks, and keep a random sample of the rows for other validators.

    `size` is the number of rows of the sample, 0 for none. `error` says why the batches cannot be checked.
    """

    def __init__(self, checks: Iterable[Any], reference: Any, size: int) -> None:
        self._checks = list(checks)
        self._reference = None if reference is None else to_batches(reference)
        self._size = size
        self._random = np.random.default_rng(0)
        self._parts: list[pa.Table] = []
        self._keys: list[np.ndarray[Any, np.dtype[np.float64]]] = []
        self._scan: TableScan | None = None
        self._library = ""
        self.error = ""

    @property
    def rows(self) -> int:
        """The number of rows so far."""
        return self._scan.rows if self._scan else 0

    @property
    def schema(self) -> pa.Schema | None:
        """The schema of the first batch; None before it."""
        return self._scan.schema if self._scan else None

    def update(self, value: Any) -> None:
        """Take the next batch, a table of any library."""
        if self.error:
            return
        try:
            table = to_arrow(value)
        except InputError as error:
            self.error = str(error)
            return
        if self._scan is None:
            self._library = type(value).__module__.partition(".")[0]
            self._scan = TableScan(self._checks, table.schema, self._reference)
        for batch in table.to_batches(BATCH_ROWS):
            self._scan.update(batch)
        if self._size and self._scan.rows:
            try:
                self._keep_sample(table)
            except (pa.ArrowException, ValueError) as error:
                self.error = f"The batches have no common schema: {error}"

    def finish(self) -> list[Check]:
        """Return the outcomes of the built-in checks; none of an empty stream."""
        return self._scan.finish(self._scan.rows) if self._scan and self._scan.rows else []

    def sample(self) -> Any:
        """Return the sample as a table of the library that the batches are of."""
        if self._library == "pandas":
            return to_frame(self._parts[0])
        if self._library == "polars":
            import polars as pl

            return pl.from_arrow(self._parts[0])
        return self._parts[0]

    def _keep_sample(self, table: pa.Table) -> None:
        """Keep the rows with the smallest of random keys, which is a sample without replacement."""
        self._parts.append(table)
        self._keys.append(self._random.random(table.num_rows))
        keys = np.concatenate(self._keys)
        first = self._parts[0].schema
        parts = [part if part.schema.equals(first) else part.cast(first) for part in self._parts]
        table = pa.concat_tables(parts)
        if len(keys) > self._size:
            kept = np.sort(np.argpartition(keys, self._size)[: self._size])
            keys, table = keys[kept], table.take(pa.array(kept))
        self._keys, self._parts = [keys], [table.combine_chunks()]
