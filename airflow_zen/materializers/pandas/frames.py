"""Frames, series and indexes to parquet and back, whole or in part, and their previews; other tables as frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import LocatedError, SaveRefused, located
from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.arrow.parquet_reader import ParquetTable, RowGroup, check_columns
from airflow_zen.materializers.arrow.parquet_writer import (
    FILE_NAME,
    MAX_ROW_GROUP_SIZE,
    MIN_ROW_GROUP_SIZE,
    WrittenParquet,
    row_group_size,
    with_metadata,
    write_parquet,
)
from airflow_zen.materializers.arrow.statistics import summarize_table
from airflow_zen.materializers.arrow.tables import check_same_schema, columns_with_nulls, peek_batch
from airflow_zen.materializers.base import Materializer, SavedBatches, transform_batches
from airflow_zen.materializers.pandas.columns import (
    are_valid_column_names,
    buffer_for,
    build_index,
    column_to_arrow,
    has_usual_dtype,
    index_buffers,
    index_columns,
    values_of,
)
from airflow_zen.materializers.pandas.dtypes import arrow_to_pandas, default_buffer, numpy_dtype
from airflow_zen.materializers.previews.html import truncate
from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    MAX_SAMPLED_VALUE_BYTES,
    TableColumn,
    preview_table,
)
from airflow_zen.materializers.typed_json import decode_typed_json, encode_typed_json
from airflow_zen.materializers.typed_json.encoding import Encoder, InlineOnly, canonical_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader, VerifiedStream
    from airflow_zen.materializers.pandas.dtypes import ArrowColumn, PandasMetadata
    from airflow_zen.materializers.registry import MaterializerRegistry

T = TypeVar("T")
R = TypeVar("R")

# pandas 3 never copies here, and warns of the option.
_NO_COPY: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"copy": False}


def save_pandas(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame, series or index, and return its summary."""
    columns, metadata = _to_arrow_columns(materializer.registry, value)
    head = _convert_rows(columns, slice(MIN_ROW_GROUP_SIZE))
    schema = pa.schema([(name, array.type) for name, array in zip(columns, head, strict=True)])
    with located("attrs", instead_of="['attrs']"), located("columns", instead_of="['columns']"):
        text, facts = encode_typed_json(materializer, metadata, directory) if metadata else (b"", {})
    schema = with_metadata(schema.empty_table(), text).schema if metadata else schema
    pieces: Iterable[list[pa.Array]] = [head]
    if len(value) > MIN_ROW_GROUP_SIZE:
        # A frame that is converted as a whole is in memory twice.
        size = row_group_size(schema)
        pieces = (_convert_rows(columns, slice(at, at + size)) for at in range(0, len(value), size))
    groups = (pa.table(piece, schema=schema) for piece in pieces)
    written = write_parquet(groups, schema, directory / FILE_NAME)
    summary = _summarize(value, len(value), written, schema.names, are_labels="columns" not in metadata)
    return {**summary, **facts, "hashes": {**facts.get("hashes", {}), **summary["hashes"]}}


def _convert_rows(columns: Mapping[str, ArrowColumn], rows: slice) -> list[pa.Array]:
    return list(_map_columns(columns, lambda column: column.convert(column.values[rows])).values())


def _map_columns(columns: Mapping[str, T], function: Callable[[T], R]) -> dict[str, R]:
    """Return the results of a function for each column; errors name the column."""
    found: dict[str, R] = {}
    name = ""
    try:
        for name, column in columns.items():
            found[name] = function(column)
    except LocatedError:
        with located("index" if name.startswith("__index_level_") else f"column {name!r}"):
            raise
    return found


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


def _summarize(
    value: Any, rows: int, written: WrittenParquet, names: Sequence[str], *, are_labels: bool = False
) -> dict[str, Any]:
    """Return the summary of a table, described by one of its batches.

    `names` are those of the columns in the file; `are_labels`: whether the columns of a frame are known to have the same.
    """
    facts = [written.column_statistics.get(name, {}) for name in names]
    if isinstance(value, pd.DataFrame):
        dtypes = [column.dtype for column in _column_arrays(value)]
        labels = names[: len(dtypes)] if are_labels else value.columns.to_list()
        columns = list(zip(labels, dtypes, facts[: len(dtypes)], strict=True))
    else:
        columns = [(value.name, getattr(value, "dtype", "object"), facts[0] if len(facts) == 1 else {})]
    return summarize_table(rows, columns) | {"hashes": {FILE_NAME: written.hash}}


def _column_arrays(frame: Any) -> list[Any]:
    """Return the values of the columns; a series of each would take longer than its conversion to Arrow."""
    return list(map(frame._get_column_array, range(frame.shape[1])))  # noqa: SLF001


def _to_arrow_columns(registry: MaterializerRegistry, value: Any) -> tuple[dict[str, ArrowColumn], dict[str, Any]]:
    """Return the columns of the file, index columns last, and the metadata that they do not express."""
    is_index = isinstance(value, pd.Index) and type(value).__module__.partition(".")[0] == "pandas"
    if type(value) not in (pd.DataFrame, pd.Series) and not is_index:
        base = next(cls.__qualname__ for cls in type(value).__mro__ if cls.__module__.partition(".")[0] == "pandas")
        raise SaveRefused(f"{type_name(type(value))} would come back as its base class. Return pandas.{base}(value).")
    columns, labels, metadata = _split_value(value)
    stored = _map_columns(columns, lambda column: column_to_arrow(registry, values_of(column)))
    with located("index"):
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
    labels = value.columns.to_list()
    are_names = are_valid_column_names(labels)
    if not (are_names and has_usual_dtype(value.columns)):
        metadata["columns"] = value.columns
    names = labels if are_names else map(str, range(len(labels)))
    return dict(zip(names, _column_arrays(value), strict=True)), value.index, metadata


def _checked_tables(
    registry: MaterializerRegistry, batches: Iterator[Any], schema: pa.Schema, cls: type
) -> Iterator[pa.Table]:
    """Convert frames to tables; raise `SaveRefused` for a frame that differs from the first."""
    for number, batch in enumerate(batches):
        if type(batch) is not cls:
            raise SaveRefused(
                f"Batch {number} is a {type(batch).__qualname__}, the first a {cls.__qualname__}. Yield values of one type."
            )
        table = _batch_to_table(registry, batch)
        # The columns of a batch without rows have no values, so their dtypes may be arbitrary.
        if table.num_rows or table.schema.equals(schema, check_metadata=True):
            check_same_schema(number, table.schema, schema)
            found, wanted = (b" ".join((it.metadata or {}).values()).decode() for it in (table.schema, schema))
            if found != wanted:
                raise SaveRefused(
                    f"Batch {number} differs from the first in categories, time zone, type of objects, attrs or the names of "
                    f"its axes: {truncate(found, 300)} is not {truncate(wanted, 300)}. Give columns one dtype in all batches, "
                    "for text that is 'str', and all frames the same attrs and names of their axes."
                )
            yield table


def _batch_to_table(registry: MaterializerRegistry, batch: Any) -> pa.Table:
    columns, metadata = _to_arrow_columns(registry, _reset_row_numbers(batch))
    if not columns:
        raise SaveRefused("A frame without columns is not written batch by batch. Return it as one.")
    if "range" in metadata.get("index", {}):
        del metadata["index"]
    table = pa.table(_convert_rows(columns, slice(None)), names=list(columns))
    if not metadata:
        return table
    remedy = "Convert a column with more than 1000 categories to its value type, or return one frame."
    encoder = Encoder(InlineOnly(registry, "a table that is written batch by batch", remedy))
    return with_metadata(table, canonical_json(encoder.encode(metadata)))


def _reset_row_numbers(batch: Any) -> Any:
    """Reset labels that are row numbers only, and drop the frequency, which ends with the batch."""
    index: Any = batch.index
    if isinstance(index, pd.RangeIndex):
        index = pd.RangeIndex(len(batch)) if index.name is None else pd.Index(index.to_numpy(), name=index.name)
    elif isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) and index.freq is not None:
        index = index.copy()
        index.freq = None
    return batch if index is batch.index else batch.set_axis(index, axis=0)


def load_pandas(
    materializer: Materializer, source: Path | VerifiedStream, directory: Path | None, wanted: Any = None
) -> Any:
    """Return the value in a parquet file, whose parts are in `directory`; a series as a frame if that is `wanted`."""
    stored = ParquetTable(source)
    metadata: PandasMetadata = decode_typed_json(materializer, stored.zen_metadata or "{}", directory)
    builder = FrameBuilder(stored.schema, stored.num_rows, metadata)
    builder.add(stored.read_into(builder.targets))
    if metadata.get("kind") == "index":
        return builder.pop_index()
    value = builder.build_value(metadata.get("columns"))
    frame_wanted = isinstance(wanted, type) and issubclass(wanted, pd.DataFrame)
    return value.to_frame() if frame_wanted and isinstance(value, pd.Series) else value


def load_foreign_table(registry: MaterializerRegistry, directory: Path, encoding: str, wanted: type | None) -> Any:
    """Return an Arrow or polars table as a frame, or its only column as a series where that is wanted."""
    table = registry.load(directory, encoding, pa.Table)
    frame = arrow_to_pandas(pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table)
    return frame.iloc[:, 0] if wanted is pd.Series and frame.shape[1] == 1 else frame


def load_pandas_view(materializer: Materializer, source: ArtifactReader, encoding: str, view: View) -> Any:
    """Return an iterator of frames, whose row numbers continue, or a frame or series of some columns."""
    if encoding != materializer.encoding:
        tables = materializer.registry.load_view(source, encoding, View(pa.Table, view.columns, batches=True))
        nulls = columns_with_nulls(source, encoding)
        frames = transform_batches(
            tables, lambda parts, first: (arrow_to_pandas(part, nulls, at) for at, part in _with_offsets(parts, first))
        )
        return _apply_view(frames, view)
    stored = ParquetTable.open(source)
    directory = source.directory() if '"part"' in stored.zen_metadata else None
    metadata: PandasMetadata = decode_typed_json(materializer, stored.zen_metadata or "{}", directory)
    names, labels = _select_columns(stored, metadata, view)
    schema = pa.schema(map(stored.schema.field, names)) if names else stored.schema
    if view.batches:
        return stored.batches(names).transform(
            lambda parts, first: (
                FrameBuilder(schema, len(table), metadata).add([RowGroup(0, table)]).build_value(labels, at)
                for at, table in _with_offsets(parts, first)
            )
        )
    builder = FrameBuilder(schema, stored.num_rows, metadata)
    return _apply_view([builder.add(stored.read_into(builder.targets, names)).build_value(labels)], view)


class FrameBuilder:
    """Build a frame from row groups, each of which is copied to its rows when it is read.

    The frame needs the memory of one row group in addition to its own; converting a whole table would need it twice.
    Neighboring columns of one NumPy dtype share an array. `targets` are these arrays by the names of columns.
    """

    def __init__(self, schema: pa.Schema, rows: int, metadata: PandasMetadata) -> None:
        self._rows = rows
        self._metadata = metadata
        how = metadata.get("dtypes", {})
        self._buffers = {it.name: buffer_for(it.type, how[it.name], rows) for it in schema if it.name in how}
        self._buffers |= index_buffers(metadata.get("index", {}), schema, rows)
        dtypes = {field.name: "" if field.name in self._buffers else numpy_dtype(field.type) for field in schema}
        runs = [(dtype, list(names)) for dtype, names in groupby(dtypes, dtypes.__getitem__)]
        self._runs = [(names, np.empty((len(names), rows), dtype) if dtype else None) for dtype, names in runs]
        blocks = ((names, block) for names, block in self._runs if block is not None)
        self.targets = {name: row for names, block in blocks for name, row in zip(names, block, strict=True)}
        for name, arrow_type in zip(schema.names, schema.types, strict=True):
            if name not in self._buffers:
                self._buffers[name] = default_buffer(arrow_type, rows, f"Column {name!r}", self.targets.get(name))

    def add(self, parts: Iterable[RowGroup]) -> FrameBuilder:
        """Add row groups in order, some of whose columns may have been copied to `targets`."""
        for part in parts:
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
        """Return the frame or series; `columns` are its labels if the names in the file do not suffice."""
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


def _apply_view(parts: Iterable[Any], view: View) -> Any:
    if view.batches:
        return iter(parts)
    found = list(parts)
    frame = found[0] if len(found) == 1 else pd.concat(found)
    return frame.iloc[:, 0] if view.cls is pd.Series and frame.ndim == 2 and frame.shape[1] == 1 else frame


def _select_columns(stored: ParquetTable, metadata: PandasMetadata, view: View) -> tuple[list[str], pd.Index | None]:
    """Return the columns of the file that a view needs, including the index, and the labels of the wanted ones.

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


def preview_pandas(value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
    """Return the page of a frame; a series and an index are shown as frames of their own columns."""
    frame, names = _to_frame(value)
    return preview_table(value, summary, frame.shape, frame_columns(frame, names), frame.index)


def frame_columns(frame: pd.DataFrame, names: Sequence[Any]) -> Iterator[TableColumn]:
    """Iterate over the columns of a frame that have `names`, as a preview shows them."""
    for at, name in enumerate(names):
        series = frame.iloc[:, at]
        head, size = series.iloc[:MAX_PREVIEW_ROWS], series.array.nbytes
        yield TableColumn(str(name), str(series.dtype), head, size, partial(_sample_to_arrow, series))


def _to_frame(value: Any) -> tuple[pd.DataFrame, Sequence[Any]]:
    """Return the columns and, separately, their names: not every name of an index can be a column name."""
    if isinstance(value, pd.DataFrame):
        return value, list(value.columns[:MAX_PREVIEW_COLUMNS])
    if isinstance(value, pd.Series):
        return value.rename(0).to_frame(), [value.name]
    frame = value.to_frame(index=False, name=list(range(value.nlevels)) if value.nlevels > 1 else 0)
    return frame, list(value.names)


def _sample_to_arrow(series: pd.Series, rows: list[int]) -> pa.Array:
    values = series.iloc[rows]
    texts = [item for item in values if isinstance(item, str)] if values.dtype == object else []
    if sum(map(len, texts)) > MAX_SAMPLED_VALUE_BYTES * len(values):
        raise ValueError("The texts are too long for a chart.")
    zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
    return pa.array(values.dt.tz_localize(None) if zoned else values, from_pandas=True)
