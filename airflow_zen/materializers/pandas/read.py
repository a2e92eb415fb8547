"""Parquet back to frames, series and indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.arrow.parquet_reader import ParquetTable, RowGroup, check_columns
from airflow_zen.materializers.arrow.parquet_writer import FILE_NAME, MAX_ROW_GROUP_SIZE
from airflow_zen.materializers.arrow.views import columns_with_nulls
from airflow_zen.materializers.pandas.columns import buffer_for
from airflow_zen.materializers.pandas.dtypes import chunk_to_numpy, default_buffer, numpy_dtype
from airflow_zen.materializers.pandas.foreign import arrow_to_pandas
from airflow_zen.materializers.pandas.index import build_index, index_buffers
from airflow_zen.materializers.typed_json import decode_typed_json

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.artifacts.streaming import VerifiedStream
    from airflow_zen.materializers.base import Materializer
    from airflow_zen.materializers.pandas.buffers import ColumnBuffer, PandasMetadata

Targets = Mapping[str, np.ndarray[Any, Any]]


def load_pandas(materializer: Materializer, directory: Path) -> Any:
    """Read what `save` wrote."""
    return _build_value(materializer, ParquetTable(directory / FILE_NAME), directory)


def load_pandas_stream(materializer: Materializer, file: VerifiedStream) -> Any:
    """Read the only file of an artifact while it arrives."""
    with file:
        return _build_value(materializer, ParquetTable(file))


def _build_value(materializer: Materializer, stored: ParquetTable, directory: Path | None = None) -> Any:
    metadata: PandasMetadata = (
        decode_typed_json(materializer, stored.zen_metadata, directory) if stored.zen_metadata else {}
    )
    builder = assemble_columns(stored.read_into, stored.schema, stored.num_rows, metadata)
    index = pop_index(builder, metadata)
    if metadata.get("kind") == "index":
        return index
    frame = builder.build_frame()
    frame.index = index
    return apply_labels(frame, metadata, metadata.get("columns"))


def as_requested_type(value: Any, wanted: Any) -> Any:
    """Show a series as a frame of one column to who asks for a frame."""
    asks = isinstance(wanted, type) and issubclass(wanted, pd.DataFrame)
    return value.to_frame() if asks and isinstance(value, pd.Series) else value


def load_foreign_table(materializer: Materializer, directory: Path, encoding: str, wanted: type | None) -> Any:
    """Read an Arrow or polars table as a frame, or its only column as a series."""
    table = materializer.registry.load(directory, encoding, pa.Table)
    frame = arrow_to_pandas(pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table)
    return frame.iloc[:, 0] if wanted is pd.Series and frame.shape[1] == 1 else frame


def assemble_columns(
    read: Callable[[Targets], Iterable[RowGroup]], schema: pa.Schema, rows: int, metadata: PandasMetadata
) -> FrameBuilder:
    """Gather the columns that a schema names, as a table's note describes them; `read` may copy some to their places."""
    dtypes = metadata.get("dtypes", {})
    buffers = {name: buffer_for(schema.field(name).type, dtypes[name], rows) for name in schema.names if name in dtypes}
    builder = FrameBuilder(schema, rows, buffers | index_buffers(metadata.get("index", {}), schema, rows))
    return builder.add(read(builder.targets))


def pop_index(builder: FrameBuilder, metadata: PandasMetadata) -> pd.Index:
    """Take the row labels out of the columns."""
    labels = metadata.get("index", {})
    return build_index({name: builder.pop_values(name) for name in labels.get("in", ())}, labels, builder.rows)


def apply_labels(frame: pd.DataFrame, metadata: PandasMetadata, columns: pd.Index | None) -> Any:
    """Give a frame its column labels where the names in the file are not enough, or make it a series."""
    value: Any = frame
    if metadata.get("kind") == "series":
        value = frame.iloc[:, 0]
        value.name = metadata["name"]  # rename() copies before pandas 3
    elif columns is not None:
        frame.columns = columns
    value.attrs = dict(metadata.get("attrs", {}))
    return value.set_flags(allows_duplicate_labels=False) if metadata.get("unique_labels") else value


# pandas 3 never copies here, and warns of the option.
_NO_COPY: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"copy": False}


class FrameBuilder:
    """Bring each part to its place in a frame made beforehand.

    So a frame needs one row group beside itself: a table that is converted as a whole is in memory twice. Neighbours
    of one NumPy dtype share an array.
    """

    def __init__(self, schema: pa.Schema, rows: int, buffers: Mapping[str, ColumnBuffer]) -> None:
        """Make room for `rows`; `buffers` are those of columns that are more than their Arrow type says."""
        self.rows = rows
        dtypes = {field.name: "" if field.name in buffers else numpy_dtype(field.type) for field in schema}
        runs = [(dtype, tuple(names)) for dtype, names in groupby(dtypes, dtypes.__getitem__)]
        self._runs = [_Block(names, np.empty((len(names), rows), dtype)) if dtype else names for dtype, names in runs]
        self._blocks = [run for run in self._runs if isinstance(run, _Block)]
        buffered_fields = [field for field in schema if not dtypes[field.name]]
        self._buffers = {
            field.name: buffers.get(field.name) or default_buffer(field.type, rows) for field in buffered_fields
        }

    @property
    def targets(self) -> dict[str, np.ndarray[Any, Any]]:
        """Give the arrays of columns whose values may be copied there by whoever reads them."""
        return {name: row for block in self._blocks for name, row in zip(block.names, block.values, strict=True)}

    def add(self, parts: Iterable[RowGroup]) -> FrameBuilder:
        """Take what was not copied to its place already; the rows come in order."""
        for part in parts:
            for block in self._blocks:
                block.fill(part)
            for name, buffer in self._buffers.items():
                for offset, chunk in _chunks_with_offsets(part.decoded[name], part.offset):
                    buffer.fill(chunk, offset)
            # Let go of before the next is read, which takes its place in memory.
            del part
        if self.rows > MAX_ROW_GROUP_SIZE:
            # Arrow would keep what is gone for row groups of its own, and none are coming.
            pa.default_memory_pool().release_unused()
        return self

    def pop_values(self, name: str) -> Any:
        """Hand over the values of a column that had a room, which then is no column of the frame."""
        return self._buffers.pop(name).values()

    def build_frame(self) -> pd.DataFrame:
        """Make the frame of what was not taken."""
        parts = [run.build_frame() if isinstance(run, _Block) else self._buffered_columns(run) for run in self._runs]
        whole = [part for part in parts if part.shape[1]]
        if not whole:
            return pd.DataFrame(index=pd.RangeIndex(self.rows))
        return whole[0] if len(whole) == 1 else pd.concat(whole, axis=1, **_NO_COPY)

    def _buffered_columns(self, names: Iterable[str]) -> pd.DataFrame:
        columns = {name: _to_series(self.pop_values(name)) for name in names if name in self._buffers}
        return pd.DataFrame(columns, index=pd.RangeIndex(self.rows), copy=False)


@dataclass(frozen=True)
class _Block:
    """Some columns of one dtype, as the rows of one array."""

    names: tuple[str, ...]
    values: np.ndarray[Any, Any]

    def fill(self, part: RowGroup) -> None:
        for name, row in zip(self.names, self.values, strict=True):
            for offset, chunk in () if name in part.copied else _chunks_with_offsets(part.decoded[name], part.offset):
                row[offset : offset + len(chunk)] = chunk_to_numpy(chunk, f"Column {name!r}")

    def build_frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.values.T, columns=list(self.names), copy=False)


def _chunks_with_offsets(column: pa.ChunkedArray, offset: int) -> Iterator[tuple[int, pa.Array]]:
    for chunk in column.chunks:
        yield offset, chunk
        offset += len(chunk)


def _to_series(values: Any) -> pd.Series:
    series: pd.Series = pd.Series(values, dtype=values.dtype, copy=False)
    return series


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
