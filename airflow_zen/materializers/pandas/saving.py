"""Frames, series and indexes to parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.parquet import (
    FILE_NAME,
    WrittenParquet,
    row_group_size,
    with_metadata,
    write_parquet,
)
from airflow_zen.materializers.arrow.summary import summarize_table
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.pandas.axes import are_valid_column_names, index_columns, restorable_from_names
from airflow_zen.materializers.pandas.columns import column_to_arrow, values_of
from airflow_zen.materializers.pandas.stored import ArrowColumn
from airflow_zen.materializers.tree import encode_typed_json


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
