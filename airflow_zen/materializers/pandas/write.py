"""Frames, series and indexes to parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow import summarize_table
from airflow_zen.materializers.arrow.parquet_writer import (
    FILE_NAME,
    WrittenParquet,
    row_group_size,
    with_metadata,
    write_parquet,
)
from airflow_zen.materializers.arrow.tables import check_same_schema, peek_batch
from airflow_zen.materializers.base import Materializer, SavedBatches
from airflow_zen.materializers.pandas.columns import column_to_arrow, values_of
from airflow_zen.materializers.pandas.index import are_valid_column_names, index_columns, restorable_from_names
from airflow_zen.materializers.typed_json import encode_typed_json
from airflow_zen.materializers.typed_json.encoding import Encoder, canonical_json
from airflow_zen.materializers.typed_json.nested import NestedValues

if TYPE_CHECKING:
    from airflow_zen.materializers.pandas.buffers import ArrowColumn
    from airflow_zen.materializers.registry import MaterializerRegistry


def save_pandas(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame, series or index, and give its summary."""
    columns, metadata = _to_arrow_columns(materializer, value)
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    parts: list[dict[str, str]] = []
    if metadata:
        text, parts = encode_typed_json(materializer, metadata, directory)
        schema = with_metadata(schema.empty_table(), text).schema
    written = write_pandas_parquet(_row_groups(columns, schema, len(value)), schema, directory)
    facts = [written.column_statistics.get(name, {}) for name in schema.names]
    summary = summarize_pandas(value, len(value), facts) | written.hash_summary()
    return {**summary, "parts": parts} if parts else summary


def to_arrow_table(materializer: Materializer, value: Any) -> tuple[pa.Table, dict[str, Any]]:
    """Give the columns of a file, those of the index last, and the note on what they do not say."""
    columns, metadata = _to_arrow_columns(materializer, value)
    return pa.table({name: column.array for name, column in columns.items()}), metadata


def write_pandas_parquet(batches: Iterable[pa.Table], schema: pa.Schema, directory: Path) -> WrittenParquet:
    """Write `table.parquet`."""
    try:
        return write_parquet(batches, schema, directory / FILE_NAME)
    except pa.ArrowException as error:
        raise SaveRefused(f"A value does not fit into parquet: {error}") from error


def summarize_pandas(value: Any, rows: int, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe a table by one of its batches; `known` are the statistics of its columns in the file, in order."""
    if isinstance(value, pd.DataFrame):
        columns = zip(value.columns, value.dtypes, known[: value.shape[1]], strict=True)
        return summarize_table(
            rows, [{"name": str(name), "type": str(dtype), **facts} for name, dtype, facts in columns]
        )
    facts = known[0] if len(known) == 1 else {}
    return summarize_table(rows, [{"name": str(value.name), "type": str(getattr(value, "dtype", "object")), **facts}])


def _row_groups(columns: Mapping[str, ArrowColumn], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """Convert row group by row group: a frame that is converted as a whole is in memory twice."""
    size = row_group_size(schema)
    for at in range(0, max(1, rows), size):
        yield pa.table([column.convert_rows(at, size) for column in columns.values()], schema=schema)


def _to_arrow_columns(materializer: Materializer, value: Any) -> tuple[dict[str, ArrowColumn], dict[str, Any]]:
    _check_class(value)
    columns, labels, metadata = _split_value(value)
    stored = {name: column_to_arrow(materializer.registry, values_of(column)) for name, column in columns.items()}
    index, index_metadata = index_columns(materializer.registry, labels, used_names=stored.keys())
    metadata |= index_metadata | _columns_metadata(stored)
    return {**stored, **index}, metadata


def _check_class(value: Any) -> None:
    if type(value) in (pd.DataFrame, pd.Series) or (isinstance(value, pd.Index) and _is_pandas(type(value))):
        return
    raise SaveRefused(f"{type(value).__qualname__} would come back as its base class. Convert it to that first.")


def _is_pandas(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "pandas"


def _split_value(value: Any) -> tuple[dict[str, Any], pd.Index, dict[str, Any]]:
    """Give the columns by the name they have in the file, the row labels, and the note on everything else."""
    if isinstance(value, pd.Index):
        return {}, value, {"kind": "index"}
    metadata = {"attrs": value.attrs} if value.attrs else {}
    if not value.flags.allows_duplicate_labels:
        metadata["unique_labels"] = True
    if isinstance(value, pd.Series):
        file_name = str(value.name) if are_valid_column_names([value.name]) else "values"
        return {file_name: value}, value.index, {"kind": "series", "name": value.name, **metadata}
    if not restorable_from_names(value.columns):
        metadata["columns"] = value.columns
    return dict(zip(_file_column_names(value.columns), _iter_columns(value), strict=True)), value.index, metadata


def _iter_columns(frame: pd.DataFrame) -> Iterator[pd.Series]:
    return (frame.iloc[:, position] for position in range(frame.shape[1]))


def _file_column_names(columns: pd.Index) -> list[str]:
    """Keep plain names; number the columns otherwise."""
    return list(columns) if are_valid_column_names(columns) else [str(position) for position in range(len(columns))]


def _columns_metadata(stored: Mapping[str, ArrowColumn]) -> dict[str, Any]:
    columns_metadata = {name: column.metadata for name, column in stored.items() if column.metadata}
    return {"dtypes": columns_metadata} if columns_metadata else {}


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
