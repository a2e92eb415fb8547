"""Arrow tables, record batches and streams of them to files and back, whole or in part; the rows in which two tables differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from airflow_zen.artifacts.reader import ArtifactReader, VerifiedStream
from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.arrow.parquet_reader import ParquetTable, check_columns, is_readable_as_arrow
from airflow_zen.materializers.arrow.parquet_writer import (
    FILE_NAME,
    METADATA_KEY,
    pop_metadata,
    regroup_rows,
    with_metadata,
    write_parquet,
)
from airflow_zen.materializers.arrow.statistics import summarize_schema
from airflow_zen.materializers.base import Materializer, SavedBatches, transform_batches

if TYPE_CHECKING:
    from airflow_zen.artifacts.diff import RowDiff
    from airflow_zen.materializers.registry import MaterializerRegistry

MAX_COMPARED_ROWS = 100_000
_IPC_FILE_NAME = "table.arrow"
_RECORD_BATCH = "RecordBatch"

StoredArtifact = tuple[ArtifactReader, str]
Row = Mapping[str, Any]
T = TypeVar("T")


def save_arrow(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a table or stream in a materializer's layout; schema metadata distinguish a record batch from a table."""
    if isinstance(value, pa.RecordBatchReader) or hasattr(value, "scanner"):
        reader = value if isinstance(value, pa.RecordBatchReader) else value.scanner().to_reader()
        return _write(materializer, _checked_tables(iter(reader), value.schema), value.schema, directory)
    table = _to_table(value)
    return _write(materializer, [table], table.schema, directory)


def save_arrow_batches(materializer: Materializer, batches: Iterator[Any], directory: Path) -> SavedBatches:
    """Write record batches or tables as one table, in the layout that the schema of the first needs."""
    first, batches = peek_batch(batches)
    saver = materializer.for_value(first)
    summary = _write(saver, _checked_tables(batches, first.schema), first.schema, directory)
    return SavedBatches(saver, pa.Table, summary)


def load_arrow_table(registry: MaterializerRegistry, directory: Path, encoding: str) -> Any:
    """Return a table of any library as Arrow."""
    if encoding == "pyarrow.ipc@1":
        with pa.OSFile(str(directory / _IPC_FILE_NAME)) as file:
            return _from_table(pa.ipc.open_file(file).read_all())
    if encoding == "pandas.parquet@1":
        stored = ParquetTable(directory / FILE_NAME)
        return frame_to_arrow(registry.load(directory, encoding)) if stored.zen_metadata else stored.read()
    table = ParquetTable(directory / FILE_NAME).read()
    return _from_table(table) if encoding == "pyarrow.parquet@1" else pop_metadata(table)[0]


def columns_with_nulls(source: ArtifactReader, encoding: str) -> set[str]:
    """Return the names of the columns of a stored table that have a null."""
    if encoding != "pyarrow.ipc@1":
        return ParquetTable.open(source).columns_with_nulls()
    found: set[str] = set()
    for batch in _IpcTable(source.directory() / _IPC_FILE_NAME).batches():
        found |= {name for name, column in zip(batch.column_names, batch.columns, strict=True) if column.null_count}
    return found


class _IpcTable:
    """An Arrow file that is mapped into memory, and read whole, by column or batch by batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.schema = pa.ipc.open_file(pa.memory_map(str(path))).schema

    def read(self, names: tuple[str, ...] = ()) -> pa.Table:
        return self._open(names).read_all().select(list(names) or self.schema.names)

    def batches(self, names: tuple[str, ...] = ()) -> Iterator[pa.Table]:
        reader = self._open(names)
        if not reader.num_record_batches:
            yield self.read(names)
        for number in range(reader.num_record_batches):
            table = pa.Table.from_batches([reader.get_batch(number)])
            yield table.select(list(names)) if names else table

    def _open(self, names: tuple[str, ...]) -> Any:
        fields = [self.schema.get_field_index(name) for name in names] or None
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        return pa.ipc.open_file(pa.memory_map(str(self._path)), options=options)


def load_arrow_stream(file: VerifiedStream) -> Any:
    """Return an Arrow table, read while it is downloaded."""
    with file:
        return _from_table(pa.concat_tables(ParquetTable(file).batches()))


def load_arrow_view(registry: MaterializerRegistry, source: ArtifactReader, encoding: str, view: View) -> Any:
    """Return what a view asks for: a dataset, a reader, an iterator of batches, or a table of some columns."""
    kind = view.cls.__qualname__ if view.cls else "Table"
    if encoding == "pyarrow.ipc@1":
        return _apply_view(_IpcTable(source.directory() / _IPC_FILE_NAME), kind, view)
    stored = ParquetTable.open(source)
    if encoding == "pandas.parquet@1" and not is_readable_as_arrow(stored.zen_metadata):
        return _apply_view(_PandasTable(registry, source, view, stored.zen_metadata), kind, view)
    return _apply_view(stored, kind, view)


def _apply_view(table: Any, kind: str, view: View) -> Any:
    check_columns(view.columns, table.schema.names)
    if kind.endswith("Dataset"):
        return _to_dataset(table, view.columns)
    if not view.batches and kind != "RecordBatchReader":
        read = pop_metadata(table.read(view.columns))[0]
        return to_record_batch(read) if kind == "RecordBatch" else read
    parts = transform_batches(table.batches(view.columns), lambda found, _: (pop_metadata(part)[0] for part in found))
    if kind == "RecordBatchReader":
        # Their schema is not the one that was written: dictionaries may differ, and the labels of a frame are columns.
        first, parts = peek_batch(map(to_record_batch, parts))
        return pa.RecordBatchReader.from_batches(first.schema, parts)
    return map(to_record_batch, parts) if kind == "RecordBatch" else parts


def _to_dataset(table: Any, names: tuple[str, ...]) -> Any:
    """Return a dataset over a stored parquet file; over the table in memory for any other file."""
    import pyarrow.dataset as ds

    if not isinstance(table, ParquetTable):
        return ds.dataset(table.read(names))
    # The schema that the table was written from, with dictionaries as they are read.
    pairs = zip(table.file_schema, table.schema, strict=True)
    fields = [read if pa.types.is_dictionary(read.type) else written for read, written in pairs]
    metadata = pop_metadata(table.schema.empty_table())[0].schema.metadata
    schema = pa.schema(fields, metadata)
    schema = pa.schema(map(schema.field, names), metadata) if names else schema
    if isinstance(table.source, Path):
        return ds.dataset(table.source, schema=schema, format="parquet")
    parquet_format = ds.ParquetFileFormat()
    return ds.FileSystemDataset(
        [parquet_format.make_fragment(pa.PythonFile(table.source, mode="r"))], schema, parquet_format
    )


class _PandasTable:
    """A frame, or some columns of it, that pandas reads in parts, each of which is converted to Arrow."""

    def __init__(self, registry: MaterializerRegistry, source: ArtifactReader, view: View, metadata: str) -> None:
        self._registry, self._source, self._view = registry, source, View(None, view.columns, batches=True)
        self._needs_cast = '"as":"object"' in metadata
        if self._needs_cast:
            # The Arrow type of objects depends on those of all parts, so that these are read twice.
            source.directory()
        schemas = (part.schema for part in self._read_parts())
        known = list(schemas) if self._needs_cast else [next(schemas)]
        self.schema = pa.unify_schemas(known, promote_options="permissive")

    def read(self, _: tuple[str, ...] = ()) -> pa.Table:
        return pa.concat_tables(self.batches())

    def batches(self, _: tuple[str, ...] = ()) -> Iterator[pa.Table]:
        return (part.cast(self.schema) for part in self._read_parts()) if self._needs_cast else self._read_parts()

    def _read_parts(self) -> Iterator[pa.Table]:
        return map(frame_to_arrow, self._registry.load_view(self._source, "pandas.parquet@1", self._view))


def to_record_batch(table: pa.Table) -> pa.RecordBatch:
    """Return a table as one record batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _to_table(value: pa.Table | pa.RecordBatch) -> pa.Table:
    _check_metadata_key(value.schema)
    if isinstance(value, pa.Table):
        # No metadata and empty metadata are read alike.
        return value.replace_schema_metadata() if value.schema.metadata == {} and value.num_columns else value
    return with_metadata(pa.Table.from_batches([value]), _RECORD_BATCH)


def _checked_tables(batches: Iterator[Any], schema: pa.Schema) -> Iterator[pa.Table]:
    """Iterate over batches as tables; raise `SaveRefused` for one that is not like the first."""
    _check_metadata_key(schema)
    for number, batch in enumerate(batches):
        if not isinstance(batch, pa.RecordBatch | pa.Table):
            raise SaveRefused(
                f"Batch {number} is a {type(batch).__qualname__}, the first is an Arrow table. Yield Arrow tables only."
            )
        check_same_schema(number, batch.schema, schema)
        yield batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])


def _check_metadata_key(schema: pa.Schema) -> None:
    if METADATA_KEY in (schema.metadata or {}):
        raise SaveRefused(
            f"The schema metadata key {METADATA_KEY.decode()!r} is reserved by this package. Use another key."
        )


def _write(
    materializer: Materializer, tables: Iterable[pa.Table], schema: pa.Schema, directory: Path
) -> Mapping[str, Any]:
    if materializer.encoding == "pyarrow.parquet@1":
        written = write_parquet(tables, schema, directory / FILE_NAME)
        summary = summarize_schema(schema, written.rows, written.column_statistics)
        return {**summary, "hashes": {FILE_NAME: written.hash}}
    options, rows = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True), 0
    with pa.ipc.new_file(directory / _IPC_FILE_NAME, schema, options=options) as writer:
        # A table that is in memory is one batch.
        for table in tables if isinstance(tables, list) else regroup_rows(tables, schema):
            rows += table.num_rows
            try:
                writer.write_table(table.combine_chunks())
            except pa.ArrowException as error:
                raise SaveRefused(
                    f"The batches do not fit into one Arrow file: {error}. Give dictionary columns the same dictionary in "
                    "all batches, or replace them by their values, column.combine_chunks().dictionary_decode()."
                ) from error
    return summarize_schema(schema, rows, {})


def _from_table(table: pa.Table) -> Any:
    table, marker = pop_metadata(table)
    return to_record_batch(table) if marker == _RECORD_BATCH else table


def frame_to_arrow(value: Any) -> pa.Table:
    """Return a frame, series or index as Arrow; its row labels are columns too, where they are more than numbers."""
    return pa.Table.from_pandas(value if value.ndim == 2 else value.to_frame())


def peek_batch(batches: Iterator[T]) -> tuple[T, Iterator[T]]:
    """Return the first batch, and an iterator over all of them."""
    first = next(batches)
    return first, chain([first], batches)


def check_same_schema(number: int, schema: pa.Schema, first: pa.Schema) -> None:
    """Raise `SaveRefused` for a batch whose columns differ from those of the first; metadata is not compared."""
    if schema.equals(first):
        return
    if schema.names != first.names:
        raise SaveRefused(
            f"Batch {number} has the columns {schema.names}, the first has {first.names}. Yield the same columns each time."
        )
    name, dtype = next((field.name, field.type) for field, other in zip(schema, first, strict=True) if field != other)
    raise SaveRefused(
        f"Batch {number} has column {name!r} as {dtype}, the first has it as {first.field(name).type}. Give the column one "
        f"dtype in all batches, for example by dtype= where it is read."
    )


def differing_rows(
    registry: MaterializerRegistry, before: StoredArtifact, after: StoredArtifact, limit: int
) -> RowDiff:
    """Return at most `limit` rows of each side that the other does not have, in any order; a repeated row counts each time.

    Rows are compared by the columns that both tables have. The first 100,000 rows of each table are read. Raise
    `ArtifactRefused` where an artifact is no table.
    """
    from airflow_zen.artifacts.diff import RowDiff

    (old, old_names), (new, new_names) = _read_rows(registry, before), _read_rows(registry, after)
    shared_names = [name for name in old_names if name in new_names]
    return RowDiff(
        tuple(_unmatched_rows(old, new, shared_names, limit)),
        tuple(_unmatched_rows(new, old, shared_names, limit)),
        max(len(old), len(new)),
    )


def _read_rows(registry: MaterializerRegistry, artifact: StoredArtifact) -> tuple[list[Row], list[str]]:
    source, encoding = artifact
    view = View(pa.RecordBatch, batches=True)
    if not registry.is_partial_view(encoding, view):
        raise ArtifactRefused(f"Only the rows of tables are compared, and {encoding} is no table. Leave the rows out.")
    rows, names = list[Row](), list[str]()
    for batch in registry.load_view(source, encoding, view):
        names = list(batch.schema.names)
        rows += batch.slice(0, MAX_COMPARED_ROWS - len(rows)).to_pylist()
        if len(rows) >= MAX_COMPARED_ROWS:
            break
    return rows, names


def _unmatched_rows(rows: Iterable[Row], others: Iterable[Row], names: list[str], limit: int) -> list[Row]:
    """Return the rows that occur more often in `rows` than in `others`."""
    remaining = Counter(_row_key(row, names) for row in others)
    found: list[Row] = []
    for row in rows:
        key = _row_key(row, names)
        if remaining[key]:
            remaining[key] -= 1
        elif len(found) < limit:
            found.append(row)
    return found


def _row_key(row: Row, names: list[str]) -> str:
    """Return a row as text, in which NaN equals itself, and lists and structs can be counted."""
    return repr([row[name] for name in names])
