"""Frames that arrive one by one and are stored as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.batches import check_same_schema, peek_batch
from airflow_zen.materializers.arrow.parquet import with_metadata
from airflow_zen.materializers.base import Materializer, SavedBatches
from airflow_zen.materializers.pandas.saving import summarize_pandas, to_arrow_table, write_pandas_parquet
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.tree.encoder import Encoder, canonical_json
from airflow_zen.materializers.tree.parts import NestedValues


def save_pandas_batches(materializer: Materializer, batches: Iterator[Any], directory: Path) -> SavedBatches:
    """Write frames below one another.

    Rows are counted anew where a frame only counts them; other row labels are kept. What a schema does not
    say (categories, time zones, names of the axes) must be the same in all frames.
    """
    first, batches = peek_batch(batches)
    if isinstance(first, pd.Index):
        raise SaveRefused("An index is not written batch by batch. Yield frames.")
    tables = _BatchTables(materializer, batches, type(first))
    written = write_pandas_parquet(tables, tables.batch_schema(first), directory)
    facts = [written.column_statistics.get(name, {}) for name in tables.batch_schema(first).names]
    return SavedBatches(materializer, type(first), summarize_pandas(first, tables.rows, facts) | written.hash_summary())


class _BatchTables:
    """Turn frames into tables of one schema, and count their rows."""

    def __init__(self, materializer: Materializer, batches: Iterator[Any], cls: type) -> None:
        self.rows = 0
        self._materializer = materializer
        self._batches = batches
        self._cls = cls

    def batch_schema(self, batch: Any) -> pa.Schema:
        """Give the schema, note included, that a batch is written with."""
        return self._to_table(batch).schema

    def __iter__(self) -> Iterator[pa.Table]:
        first = None
        for number, batch in enumerate(self._batches):
            if type(batch) is not self._cls:
                kinds = type(batch).__qualname__, self._cls.__qualname__
                raise SaveRefused(f"Batch {number} is a {kinds[0]}, the first a {kinds[1]}.")
            table = self._to_table(batch)
            first = first or table.schema
            # A batch without rows has columns without values, whose dtypes mean little.
            if table.num_rows or table.schema.equals(first, check_metadata=True):
                check_same_schema(number, table.schema, first)
                _check_same_metadata(number, table.schema, first)
                self.rows += table.num_rows
                yield table

    def _to_table(self, batch: Any) -> pa.Table:
        table, metadata = to_arrow_table(self._materializer, _reset_row_numbers(batch))
        if not table.num_columns:
            raise SaveRefused("A frame without columns is not written batch by batch. Return it as one.")
        if "range" in metadata.get("index", {}):
            del metadata["index"]
        return (
            with_metadata(table, canonical_json(_metadata_encoder(self._materializer.registry).encode(metadata)))
            if metadata
            else table
        )


def _reset_row_numbers(batch: Any) -> Any:
    """Keep labels that say something: a range without a name only counts, and a frequency ends with its batch."""
    index = batch.index
    if isinstance(index, pd.RangeIndex):
        if index.name is None:
            return batch.set_axis(pd.RangeIndex(len(batch)), axis=0)
        return batch.set_axis(pd.Index(index.to_numpy(), name=index.name), axis=0)
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) and index.freq is not None:
        unbound: Any = index.copy()
        unbound.freq = None
        return batch.set_axis(unbound, axis=0)
    return batch


def _check_same_metadata(number: int, schema: pa.Schema, first: pa.Schema) -> None:
    if (schema.metadata or {}) != (first.metadata or {}):
        raise SaveRefused(
            f"Batch {number} differs from the first in categories, time zone, kind of objects, attrs or the names of its "
            f"axes: {_metadata_text(schema)} is not {_metadata_text(first)}. Give columns one dtype in all batches; for text that is 'str'."
        )


def _metadata_text(schema: pa.Schema) -> str:
    text = b" ".join((schema.metadata or {}).values()).decode()
    return text if len(text) <= 300 else f"{text[:299]}…"


class _RefusedParts(NestedValues):
    """Refuse what would lie beside the file, where each batch would have its own."""

    def save(self, value: Any) -> Mapping[str, str]:
        raise SaveRefused(
            "A category or axis with more than 1000 labels is not written batch by batch. Convert the column to its value "
            "type, or return one frame."
        )


def _metadata_encoder(registry: MaterializerRegistry) -> Encoder:
    return Encoder(_RefusedParts(registry, Path()))
