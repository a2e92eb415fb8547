"""Parquet back to frames, series and indexes, whole or in part; tables of other libraries as frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.arrow.parquet_reader import ParquetTable, RowGroup, check_columns
from airflow_zen.materializers.arrow.parquet_writer import FILE_NAME, MAX_ROW_GROUP_SIZE
from airflow_zen.materializers.arrow.views import columns_with_nulls
from airflow_zen.materializers.pandas.columns import buffer_for
from airflow_zen.materializers.pandas.dtypes import default_buffer, numpy_dtype
from airflow_zen.materializers.pandas.index import build_index, index_buffers
from airflow_zen.materializers.typed_json import decode_typed_json

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.artifacts.streaming import VerifiedStream
    from airflow_zen.materializers.base import Materializer
    from airflow_zen.materializers.pandas.buffers import PandasMetadata
    from airflow_zen.materializers.registry import MaterializerRegistry

ReadRowGroups = Callable[[Mapping[str, np.ndarray[Any, Any]]], Iterable[RowGroup]]

# pandas' own integers with nulls are floats, which do not have every integer; its booleans with nulls are objects.
_NULLABLE_DTYPES: dict[Any, Any] = {
    **{getattr(pa, name)(): getattr(pd, f"{name.capitalize()}Dtype")() for name in ("int8", "int16", "int32", "int64")},
    **{getattr(pa, f"uint{bits}")(): getattr(pd, f"UInt{bits}Dtype")() for bits in (8, 16, 32, 64)},
    pa.bool_(): pd.BooleanDtype(),
}
# pandas 3 never copies here, and warns of the option.
_NO_COPY: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"copy": False}


def load_pandas(materializer: Materializer, directory: Path, wanted: Any = None) -> Any:
    """Return the frame, series or index that was saved in a directory; a series as a frame where that is `wanted`."""
    return _load(materializer, ParquetTable(directory / FILE_NAME), directory, wanted)


def load_pandas_stream(materializer: Materializer, file: VerifiedStream, wanted: Any = None) -> Any:
    """Return what was saved as one file, read while it is downloaded."""
    with file:
        return _load(materializer, ParquetTable(file), None, wanted)


def load_foreign_table(registry: MaterializerRegistry, directory: Path, encoding: str, wanted: type | None) -> Any:
    """Return an Arrow or polars table as a frame, or its only column as a series where that is wanted."""
    table = registry.load(directory, encoding, pa.Table)
    frame = _arrow_to_pandas(pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table)
    return frame.iloc[:, 0] if wanted is pd.Series and frame.shape[1] == 1 else frame


def load_pandas_view(materializer: Materializer, source: ArtifactReader, encoding: str, view: View) -> Any:
    """Return an iterator of frames, whose row numbers continue, or a frame or series of some columns."""
    if encoding != materializer.encoding:
        tables = materializer.registry.load_view(source, encoding, View(pa.Table, view.columns, batches=True))
        nulls = columns_with_nulls(source, encoding)
        frames = ((at, _arrow_to_pandas(part, nulls)) for at, part in _with_offsets(tables))
        return _apply_view((_offset_row_numbers(frame, at) for at, frame in frames), view)
    stored = ParquetTable.open(source)
    metadata = _metadata(materializer, stored, source.directory() if '"part"' in stored.zen_metadata else None)
    names, labels = _select_columns(stored, metadata, view)
    schema = pa.schema(map(stored.schema.field, names)) if names else stored.schema

    def build(at: int | None, rows: int, read: ReadRowGroups) -> Any:
        return FrameBuilder(schema, rows, metadata).add(read).build_value(labels, at)

    if view.batches:
        return (
            build(at, table.num_rows, partial(_single_row_group, table))
            for at, table in _with_offsets(stored.batches(names))
        )
    return _apply_view([build(None, stored.num_rows, partial(stored.read_into, names=names))], view)


def _load(materializer: Materializer, stored: ParquetTable, directory: Path | None, wanted: Any) -> Any:
    metadata = _metadata(materializer, stored, directory)
    builder = FrameBuilder(stored.schema, stored.num_rows, metadata).add(stored.read_into)
    if metadata.get("kind") == "index":
        return builder.pop_index()
    value = builder.build_value(metadata.get("columns"))
    frame_wanted = isinstance(wanted, type) and issubclass(wanted, pd.DataFrame)
    return value.to_frame() if frame_wanted and isinstance(value, pd.Series) else value


def _metadata(materializer: Materializer, stored: ParquetTable, directory: Path | None) -> PandasMetadata:
    return decode_typed_json(materializer, stored.zen_metadata, directory) if stored.zen_metadata else {}


class FrameBuilder:
    """Build a frame from row groups, each of which is copied to its rows as it is read.

    So the frame needs the memory of one row group beside its own: a table that is converted as a whole is in memory
    twice. Neighboring columns of one NumPy dtype share an array.
    """

    def __init__(self, schema: pa.Schema, rows: int, metadata: PandasMetadata) -> None:
        self._rows = rows
        self._metadata = metadata
        how = metadata.get("dtypes", {})
        self._buffers = {
            name: buffer_for(schema.field(name).type, how[name], rows) for name in schema.names if name in how
        }
        self._buffers |= index_buffers(metadata.get("index", {}), schema, rows)
        dtypes = {field.name: "" if field.name in self._buffers else numpy_dtype(field.type) for field in schema}
        runs = [(dtype, list(names)) for dtype, names in groupby(dtypes, dtypes.__getitem__)]
        self._runs = [(names, np.empty((len(names), rows), dtype) if dtype else None) for dtype, names in runs]
        blocks = ((names, block) for names, block in self._runs if block is not None)
        self._targets = {name: row for names, block in blocks for name, row in zip(names, block, strict=True)}
        for name, arrow_type in zip(schema.names, schema.types, strict=True):
            if name not in self._buffers:
                self._buffers[name] = default_buffer(arrow_type, rows, f"Column {name!r}", self._targets.get(name))

    def add(self, read: ReadRowGroups) -> FrameBuilder:
        """Add the row groups that `read` returns in order; it may copy columns to the arrays that it is given by name."""
        for part in read(self._targets):
            for name in self._buffers.keys() - part.copied:
                for offset, chunk in _with_offsets(part.decoded[name].chunks, part.offset):
                    self._buffers[name].fill(chunk, offset)
            # The next row group takes the memory of this one.
            del part
        if self._rows > MAX_ROW_GROUP_SIZE:
            # Arrow would keep the memory for further row groups of its own.
            pa.default_memory_pool().release_unused()
        return self

    def pop_index(self, at: int | None = None) -> pd.Index:
        """Return the row labels, and take their columns out of the frame.

        `at` is the position of the first row where a part of the table is read.
        """
        labels = self._metadata.get("index", {})
        values = {name: self._buffers.pop(name).values() for name in labels.get("in", ())}
        return build_index(values, labels, self._rows, at)

    def build_value(self, columns: pd.Index | None, at: int | None = None) -> Any:
        """Return the frame, or the series it was; `columns` are its labels where the names in the file are not enough."""
        index, metadata = self.pop_index(at), self._metadata
        value: Any = self._build_frame()
        value.index = index
        if metadata.get("kind") == "series":
            value = value.iloc[:, 0]
            value.name = metadata["name"]  # rename() copies before pandas 3
        elif columns is not None:
            value.columns = columns
        value.attrs = dict(metadata.get("attrs", {}))
        return value.set_flags(allows_duplicate_labels=False) if metadata.get("unique_labels") else value

    def _build_frame(self) -> pd.DataFrame:
        parts = [
            self._buffered_columns(names) if block is None else pd.DataFrame(block.T, columns=names, copy=False)
            for names, block in self._runs
        ]
        whole = [part for part in parts if part.shape[1]]
        if not whole:
            return pd.DataFrame(index=pd.RangeIndex(self._rows))
        return whole[0] if len(whole) == 1 else pd.concat(whole, axis=1, **_NO_COPY)

    def _buffered_columns(self, names: Iterable[str]) -> pd.DataFrame:
        values = {name: self._buffers.pop(name).values() for name in names if name in self._buffers}
        columns = {name: pd.Series(array, dtype=array.dtype, copy=False) for name, array in values.items()}
        return pd.DataFrame(columns, index=pd.RangeIndex(self._rows), copy=False)


def _with_offsets(parts: Iterable[Any], offset: int = 0) -> Iterator[tuple[int, Any]]:
    """Iterate over tables or chunks with the number of the first row of each."""
    for part in parts:
        yield offset, part
        offset += len(part)


def _single_row_group(table: pa.Table, _: Any) -> list[RowGroup]:
    return [RowGroup(0, table)]


def _apply_view(parts: Iterable[Any], view: View) -> Any:
    if view.batches:
        return iter(parts)
    found = list(parts)
    frame = found[0] if len(found) == 1 else pd.concat(found)
    return frame.iloc[:, 0] if view.cls is pd.Series and frame.ndim == 2 and frame.shape[1] == 1 else frame


def _select_columns(stored: ParquetTable, metadata: PandasMetadata, view: View) -> tuple[list[str], pd.Index | None]:
    """Return the columns of the file that a view needs, those of the index included, and the labels of the wanted ones.

    No names stand for all columns. A label that several columns have stands for all of them.
    """
    index, columns = metadata.get("index", {}).get("in", ()), metadata.get("columns")
    if not view.columns:
        return [], columns
    labels = [name for name in stored.schema.names if name not in index] if columns is None else list(columns)
    check_columns(view.columns, labels)
    positions = [at for name in view.columns for at, label in enumerate(labels) if label == name]
    names = [stored.schema.names[at] for at in positions]
    return [*names, *index], None if columns is None else columns[positions]


def _offset_row_numbers(frame: pd.DataFrame, at: int) -> pd.DataFrame:
    return frame.set_axis(pd.RangeIndex(at, at + len(frame)), axis=0) if type(frame.index) is pd.RangeIndex else frame


def _arrow_to_pandas(table: pa.Table, with_nulls: Collection[str] | None = None) -> pd.DataFrame:
    """Return a table as a frame; integers and booleans of columns that have nulls get a nullable dtype.

    `with_nulls` names those columns where the table is a part of one, and may have none of its nulls.
    """
    frame: pd.DataFrame = table.to_pandas()
    names = list(frame.columns)
    for at, (field, column) in enumerate(zip(table.schema, table.columns, strict=True)):
        has_nulls = column.null_count if with_nulls is None else field.name in with_nulls
        is_label = len(names) < table.num_columns and field.name not in names
        if has_nulls and field.type in _NULLABLE_DTYPES and not is_label:
            position = at if len(names) == table.num_columns else names.index(field.name)
            frame.isetitem(position, column.to_pandas(types_mapper=_NULLABLE_DTYPES.get).array)
    return frame
