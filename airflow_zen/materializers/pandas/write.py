"""Frames, series and indexes to parquet, whole or batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.parquet_writer import (
    FILE_NAME,
    WrittenParquet,
    row_group_size,
    with_metadata,
    write_parquet,
)
from airflow_zen.materializers.arrow.statistics import summarize_table
from airflow_zen.materializers.arrow.tables import check_same_schema, peek_batch
from airflow_zen.materializers.base import Materializer, SavedBatches
from airflow_zen.materializers.pandas.columns import column_to_arrow, values_of
from airflow_zen.materializers.pandas.index import are_valid_column_names, index_columns, restorable_from_names
from airflow_zen.materializers.previews.html import truncate
from airflow_zen.materializers.typed_json import encode_typed_json
from airflow_zen.materializers.typed_json.encoding import Encoder, canonical_json
from airflow_zen.materializers.typed_json.nested import NestedValues

if TYPE_CHECKING:
    from airflow_zen.materializers.pandas.buffers import ArrowColumn
    from airflow_zen.materializers.registry import MaterializerRegistry


def save_pandas(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame, series or index, and return its summary."""
    columns, metadata = _to_arrow_columns(materializer.registry, value)
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    parts: list[dict[str, str]] = []
    if metadata:
        text, parts = encode_typed_json(materializer, metadata, directory)
        schema = with_metadata(schema.empty_table(), text).schema
    size = row_group_size(schema)
    # A frame that is converted as a whole is in memory twice.
    groups = (
        pa.table([column.convert(column.values[at : at + size]) for column in columns.values()], schema=schema)
        for at in range(0, max(1, len(value)), size)
    )
    written = write_parquet(groups, schema, directory / FILE_NAME)
    summary = _summarize(value, len(value), written, schema.names)
    return {**summary, "parts": parts} if parts else summary


def save_pandas_batches(materializer: Materializer, batches: Iterator[Any], directory: Path) -> SavedBatches:
    """Write frames as one table, one by one.

    Row numbers continue through all frames; other row labels are kept. What a schema does not express (categories, time
    zones, names of the axes) must be the same in all frames.
    """
    first, batches = peek_batch(batches)
    if isinstance(first, pd.Index):
        raise SaveRefused("An index is not written batch by batch. Yield frames.")
    schema = _batch_to_table(materializer.registry, first).schema
    tables = _checked_tables(materializer.registry, batches, schema, type(first))
    written = write_parquet(tables, schema, directory / FILE_NAME)
    return SavedBatches(materializer, type(first), _summarize(first, written.rows, written, schema.names))


def _summarize(value: Any, rows: int, written: WrittenParquet, names: Sequence[str]) -> dict[str, Any]:
    """Return the summary of a table, described by one of its batches; `names` are those of the columns in the file."""
    facts = [written.column_statistics.get(name, {}) for name in names]
    if isinstance(value, pd.DataFrame):
        columns = list(zip(value.columns, value.dtypes, facts[: value.shape[1]], strict=True))
    else:
        columns = [(value.name, getattr(value, "dtype", "object"), facts[0] if len(facts) == 1 else {})]
    return summarize_table(rows, columns) | written.hash_summary()


def _to_arrow_columns(registry: MaterializerRegistry, value: Any) -> tuple[dict[str, ArrowColumn], dict[str, Any]]:
    """Return the columns of the file, those of the index last, and the metadata that they do not express."""
    is_index = isinstance(value, pd.Index) and type(value).__module__.partition(".")[0] == "pandas"
    if type(value) not in (pd.DataFrame, pd.Series) and not is_index:
        raise SaveRefused(f"{type(value).__qualname__} would come back as its base class. Convert it to that first.")
    columns, labels, metadata = _split_value(value)
    stored = {name: column_to_arrow(registry, values_of(column)) for name, column in columns.items()}
    index, index_metadata = index_columns(registry, labels, used_names=stored.keys())
    dtypes = {name: column.metadata for name, column in stored.items() if column.metadata}
    return {**stored, **index}, metadata | index_metadata | ({"dtypes": dtypes} if dtypes else {})


def _split_value(value: Any) -> tuple[dict[str, Any], pd.Index, dict[str, Any]]:
    """Return the columns by their names in the file, the row labels, and the metadata of everything else."""
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
    numbers = range(value.shape[1])
    names = value.columns if are_valid_column_names(value.columns) else map(str, numbers)
    return {name: value.iloc[:, at] for name, at in zip(names, numbers, strict=True)}, value.index, metadata


def _checked_tables(
    registry: MaterializerRegistry, batches: Iterator[Any], schema: pa.Schema, cls: type
) -> Iterator[pa.Table]:
    """Convert frames to tables; raise `SaveRefused` for one that is not like the first."""
    for number, batch in enumerate(batches):
        if type(batch) is not cls:
            raise SaveRefused(f"Batch {number} is a {type(batch).__qualname__}, the first a {cls.__qualname__}.")
        table = _batch_to_table(registry, batch)
        # The columns of a batch without rows have no values, so their dtypes may be arbitrary.
        if table.num_rows or table.schema.equals(schema, check_metadata=True):
            check_same_schema(number, table.schema, schema)
            _check_same_metadata(number, table.schema, schema)
            yield table


def _batch_to_table(registry: MaterializerRegistry, batch: Any) -> pa.Table:
    columns, metadata = _to_arrow_columns(registry, _reset_row_numbers(batch))
    if not columns:
        raise SaveRefused("A frame without columns is not written batch by batch. Return it as one.")
    if "range" in metadata.get("index", {}):
        del metadata["index"]
    table = pa.table({name: column.convert(column.values) for name, column in columns.items()})
    if not metadata:
        return table
    return with_metadata(table, canonical_json(Encoder(_RefusedParts(registry, Path())).encode(metadata)))


def _reset_row_numbers(batch: Any) -> Any:
    """Reset labels that are only row numbers, and drop a frequency, which ends with the batch."""
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
    found, wanted = (b" ".join((it.metadata or {}).values()).decode() for it in (schema, first))
    if found != wanted:
        raise SaveRefused(
            f"Batch {number} differs from the first in categories, time zone, type of objects, attrs or the names of its "
            f"axes: {truncate(found, 300)} is not {truncate(wanted, 300)}. Give columns one dtype in all batches; for text that "
            "is 'str'."
        )


class _RefusedParts(NestedValues):
    """Refuse values that would be files of their own, one for each batch."""

    def save(self, value: Any) -> Mapping[str, str]:
        raise SaveRefused(
            "A category or axis with more than 1000 labels is not written batch by batch. Convert the column to its value "
            "type, or return one frame."
        )
