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
    rows_in_a_group,
    with_note,
    write_parquet,
)
from airflow_zen.materializers.arrow.summary import describe
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.pandas.axes import are_plain, index_columns, is_default_columns
from airflow_zen.materializers.pandas.columns import store, values_of
from airflow_zen.materializers.pandas.stored import Stored
from airflow_zen.materializers.tree import tree_text


def save(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame, series or index, and give its summary."""
    columns, note = _stored(materializer, value)
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    parts: list[dict[str, str]] = []
    if note:
        text, parts = tree_text(materializer, note, directory)
        schema = with_note(schema.empty_table(), text).schema
    written = write(_groups(columns, schema, len(value)), schema, directory)
    facts = [written.columns.get(name, {}) for name in schema.names]
    summary = summarise(value, len(value), facts) | written.hashes()
    return {**summary, "parts": parts} if parts else summary


def as_table(materializer: Materializer, value: Any) -> tuple[pa.Table, dict[str, Any]]:
    """Give the columns of a file, those of the index last, and the note on what they do not say."""
    columns, note = _stored(materializer, value)
    return pa.table({name: column.array for name, column in columns.items()}), note


def write(batches: Iterable[pa.Table], schema: pa.Schema, directory: Path) -> WrittenParquet:
    """Write `table.parquet`."""
    try:
        return write_parquet(batches, schema, directory / FILE_NAME)
    except pa.ArrowException as error:
        raise SaveRefused(f"A value does not fit into parquet: {error}") from error


def summarise(value: Any, rows: int, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe a table by one of its batches; `known` are the statistics of its columns in the file, in order."""
    if isinstance(value, pd.DataFrame):
        columns = zip(value.columns, value.dtypes, known[: value.shape[1]], strict=True)
        return describe(rows, [{"name": str(name), "type": str(dtype), **facts} for name, dtype, facts in columns])
    facts = known[0] if len(known) == 1 else {}
    return describe(rows, [{"name": str(value.name), "type": str(getattr(value, "dtype", "object")), **facts}])


def _groups(columns: Mapping[str, Stored], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """Convert row group by row group: a frame that is converted as a whole is in memory twice."""
    size = rows_in_a_group(schema)
    for at in range(0, max(1, rows), size):
        yield pa.table([column.part(at, size) for column in columns.values()], schema=schema)


def _stored(materializer: Materializer, value: Any) -> tuple[dict[str, Stored], dict[str, Any]]:
    _check_class(value)
    columns, labels, note = _taken_apart(value)
    stored = {name: store(materializer.registry, values_of(column)) for name, column in columns.items()}
    index, index_note = index_columns(materializer.registry, labels, taken=stored.keys())
    note |= index_note | _column_notes(stored)
    return {**stored, **index}, note


def _check_class(value: Any) -> None:
    if type(value) in (pd.DataFrame, pd.Series) or (isinstance(value, pd.Index) and _is_pandas(type(value))):
        return
    raise SaveRefused(f"{type(value).__qualname__} would come back as its base class. Convert it to that first.")


def _is_pandas(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "pandas"


def _taken_apart(value: Any) -> tuple[dict[str, Any], pd.Index, dict[str, Any]]:
    """Give the columns by the name they have in the file, the row labels, and the note on everything else."""
    if isinstance(value, pd.Index):
        return {}, value, {"kind": "index"}
    note = {"attrs": value.attrs} if value.attrs else {}
    if not value.flags.allows_duplicate_labels:
        note["unique_labels"] = True
    if isinstance(value, pd.Series):
        file_name = str(value.name) if are_plain([value.name]) else "values"
        return {file_name: value}, value.index, {"kind": "series", "name": value.name, **note}
    if not is_default_columns(value.columns):
        note["columns"] = value.columns
    return dict(zip(_file_names(value.columns), _columns(value), strict=True)), value.index, note


def _columns(frame: pd.DataFrame) -> Iterator[pd.Series]:
    return (frame.iloc[:, position] for position in range(frame.shape[1]))


def _file_names(columns: pd.Index) -> list[str]:
    """Keep plain names; number the columns otherwise."""
    return list(columns) if are_plain(columns) else [str(position) for position in range(len(columns))]


def _column_notes(stored: Mapping[str, Stored]) -> dict[str, Any]:
    notes = {name: column.note for name, column in stored.items() if column.note}
    return {"dtypes": notes} if notes else {}
