"""Frames that arrive one by one and are stored as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.batches import check_alike, first_of
from airflow_zen.materializers.arrow.parquet import with_note
from airflow_zen.materializers.base import Materializer, SavedBatches
from airflow_zen.materializers.pandas.saving import as_table, summarise, write
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.tree.encoder import Encoder, canonical
from airflow_zen.materializers.tree.parts import Parts


def save_batches(materializer: Materializer, batches: Iterator[Any], directory: Path) -> SavedBatches:
    """Write frames below one another.

    Rows are counted anew where a frame only counts them; other row labels are kept. What a schema does not
    say (categories, time zones, names of the axes) must be the same in all frames.
    """
    first, batches = first_of(batches)
    if isinstance(first, pd.Index):
        raise SaveRefused("An index is not written batch by batch. Yield frames.")
    tables = _Tables(materializer, batches, type(first))
    written = write(tables, tables.schema_of(first), directory)
    facts = [written.columns.get(name, {}) for name in tables.schema_of(first).names]
    return SavedBatches(materializer, type(first), summarise(first, tables.rows, facts) | written.hashes())


class _Tables:
    """Turn frames into tables of one schema, and count their rows."""

    def __init__(self, materializer: Materializer, batches: Iterator[Any], cls: type) -> None:
        self.rows = 0
        self._materializer = materializer
        self._batches = batches
        self._cls = cls

    def schema_of(self, batch: Any) -> pa.Schema:
        """Give the schema, note included, that a batch is written with."""
        return self._table(batch).schema

    def __iter__(self) -> Iterator[pa.Table]:
        first = None
        for number, batch in enumerate(self._batches):
            if type(batch) is not self._cls:
                kinds = type(batch).__qualname__, self._cls.__qualname__
                raise SaveRefused(f"Batch {number} is a {kinds[0]}, the first a {kinds[1]}.")
            table = self._table(batch)
            first = first or table.schema
            # A batch without rows has columns without values, whose dtypes mean little.
            if table.num_rows or table.schema.equals(first, check_metadata=True):
                check_alike(number, table.schema, first)
                _check_note(number, table.schema, first)
                self.rows += table.num_rows
                yield table

    def _table(self, batch: Any) -> pa.Table:
        table, note = as_table(self._materializer, _counted_anew(batch))
        if not table.num_columns:
            raise SaveRefused("A frame without columns is not written batch by batch. Return it as one.")
        if "range" in note.get("index", {}):
            del note["index"]
        return with_note(table, canonical(_encoder(self._materializer.registry).encode(note))) if note else table


def _counted_anew(batch: Any) -> Any:
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


def _check_note(number: int, schema: pa.Schema, first: pa.Schema) -> None:
    if (schema.metadata or {}) != (first.metadata or {}):
        raise SaveRefused(
            f"Batch {number} differs from the first in categories, time zone, kind of objects, attrs or the names of its "
            f"axes: {_text(schema)} is not {_text(first)}. Give columns one dtype in all batches; for text that is 'str'."
        )


def _text(schema: pa.Schema) -> str:
    text = b" ".join((schema.metadata or {}).values()).decode()
    return text if len(text) <= 300 else f"{text[:299]}…"


class _NoteParts(Parts):
    """Refuse what would lie beside the file, where each batch would have its own."""

    def save(self, value: Any) -> Mapping[str, str]:
        raise SaveRefused(
            "A category or axis with more than 1000 labels is not written batch by batch. Convert the column to its value "
            "type, or return one frame."
        )


def _encoder(registry: MaterializerRegistry) -> Encoder:
    return Encoder(_NoteParts(registry, Path()))
