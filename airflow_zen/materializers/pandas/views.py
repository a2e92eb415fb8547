"""Some columns of a stored table as pandas, or its rows in frames one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_zen.artifacts.source import ArtifactReader
from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.arrow.stored import ParquetTable, RowGroup, check_columns
from airflow_zen.materializers.arrow.views import columns_with_nulls
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.pandas.gathering import FrameBuilder
from airflow_zen.materializers.pandas.loading import apply_labels, assemble_columns, pop_index
from airflow_zen.materializers.pandas.others import arrow_to_pandas
from airflow_zen.materializers.pandas.stored import PandasMetadata
from airflow_zen.materializers.tree import decode_typed_json
from airflow_zen.materializers.views import View


def load_pandas_view(materializer: Materializer, source: ArtifactReader, encoding: str, view: View) -> Any:
    """Read what is asked for: an iterator of frames, whose row numbers count on, or a frame or series of some columns."""
    if encoding != materializer.encoding:
        tables = materializer.registry.load_view(source, encoding, View(pa.Table, view.columns, batches=True))
        nulls = columns_with_nulls(source, encoding)
        parts: Iterable[Any] = (
            _offset_row_numbers(arrow_to_pandas(part, nulls), at) for at, part in _tables_with_offsets(tables)
        )
        return _apply_view(parts, view)
    stored = ParquetTable.open(source)
    metadata: PandasMetadata = (
        decode_typed_json(materializer, stored.zen_metadata, _parts_directory(stored.zen_metadata, source))
        if stored.zen_metadata
        else {}
    )
    if metadata.get("kind") == "index":
        raise ArtifactRefused(f"A pandas index is not read as {view}. Ask for pd.Index.")
    names = _selected_file_columns(stored, metadata, view)
    schema = stored.select_schema(names)
    if view.batches:
        tables = _tables_with_offsets(stored.batches(names))
        return (
            _build_view(lambda _, table=table: [RowGroup(0, table)], schema, table.num_rows, metadata, at, view)
            for at, table in tables
        )
    return _apply_view(
        [_build_view(partial(stored.read_into, names=names), schema, stored.num_rows, metadata, 0, view)], view
    )


def _apply_view(parts: Iterable[Any], view: View) -> Any:
    if view.batches:
        return iter(parts)
    found = list(parts)
    frame = found[0] if len(found) == 1 else pd.concat(found)
    return frame.iloc[:, 0] if view.cls is pd.Series and frame.ndim == 2 and frame.shape[1] == 1 else frame


def _tables_with_offsets(tables: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    at = 0
    for table in tables:
        yield at, table
        at += table.num_rows


def _offset_row_numbers(frame: pd.DataFrame, at: int) -> pd.DataFrame:
    return frame.set_axis(pd.RangeIndex(at, at + len(frame)), axis=0) if type(frame.index) is pd.RangeIndex else frame


def _parts_directory(metadata: str, source: ArtifactReader) -> Any:
    return source.directory() if '"part"' in metadata else None


def _column_labels(stored: ParquetTable, metadata: PandasMetadata) -> list[Any]:
    inside = set(metadata.get("index", {}).get("in", ()))
    return list(metadata["columns"]) if "columns" in metadata else [n for n in stored.schema.names if n not in inside]


def _selected_file_columns(stored: ParquetTable, metadata: PandasMetadata, view: View) -> list[str]:
    """Give the columns of the file that hold the wanted ones, and those of the index; none where all are wanted."""
    if not view.columns:
        return []
    labels = _column_labels(stored, metadata)
    check_columns(view.columns, labels)
    wanted = [stored.schema.names[position] for position in _label_positions(labels, view)]
    return [*wanted, *metadata.get("index", {}).get("in", ())]


def _label_positions(labels: Iterable[Any], view: View) -> list[int]:
    """Say where the wanted columns stand; a name that several columns have stands for all of them."""
    held = list(labels)
    return [position for name in view.columns for position, label in enumerate(held) if label == name]


def _build_view(read: Any, schema: pa.Schema, rows: int, metadata: PandasMetadata, at: int, view: View) -> Any:
    builder = assemble_columns(read, schema, rows, metadata)
    index = _view_index(builder, metadata, at)
    frame = builder.build_frame()
    frame.index = index
    columns = metadata.get("columns")
    if columns is not None and view.columns:
        columns = columns[_label_positions(columns, view)]
    return apply_labels(frame, metadata, columns)


def _view_index(builder: FrameBuilder, metadata: PandasMetadata, at: int) -> pd.Index:
    labels = metadata.get("index", {})
    if "range" in labels:
        found: pd.Index = labels["range"][at : at + builder.rows]
        return found
    return pop_index(builder, metadata) if labels else pd.RangeIndex(at, at + builder.rows)
