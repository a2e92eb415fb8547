"""Stored tables as Arrow in part: some columns, record batches, or a dataset; and the rows in which two tables differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from airflow_zen.artifacts.diff import RowDiff
from airflow_zen.artifacts.reader import ArtifactReader
from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.arrow.parquet_reader import ParquetTable, check_columns, is_readable_as_arrow
from airflow_zen.materializers.arrow.parquet_writer import pop_metadata
from airflow_zen.materializers.arrow.tables import IPC_FILE_NAME, IpcTable, frame_to_arrow, peek_batch, to_record_batch

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

MAX_COMPARED_ROWS = 100_000

StoredArtifact = tuple[ArtifactReader, str]
Row = Mapping[str, Any]


def load_arrow_view(registry: MaterializerRegistry, source: ArtifactReader, encoding: str, view: View) -> Any:
    """Return what a view asks for: a dataset, a reader, an iterator of batches, or a table of some columns."""
    kind = view.cls.__qualname__ if view.cls else "Table"
    if encoding == "pyarrow.ipc@1":
        return _apply_view(IpcTable(source.directory() / IPC_FILE_NAME), kind, view)
    stored = ParquetTable.open(source)
    if encoding == "pandas.parquet@1" and not is_readable_as_arrow(stored.zen_metadata):
        return _apply_view(_PandasTable(registry, source, view.columns, stored.zen_metadata), kind, view)
    return _apply_view(stored, kind, view)


def _apply_view(table: Any, kind: str, view: View) -> Any:
    check_columns(view.columns, table.schema.names)
    if kind.endswith("Dataset"):
        return _to_dataset(table, view.columns)
    if not view.batches and kind != "RecordBatchReader":
        read = pop_metadata(table.read(view.columns))[0]
        return to_record_batch(read) if kind == "RecordBatch" else read
    parts: Iterator[Any] = (pop_metadata(part)[0] for part in table.batches(view.columns))
    if kind == "RecordBatchReader":
        # Their schema is not the one that was written: dictionaries may differ, and the labels of a frame are columns.
        first, parts = peek_batch(map(to_record_batch, parts))
        return pa.RecordBatchReader.from_batches(first.schema, parts)
    return map(to_record_batch, parts) if kind == "RecordBatch" else parts


def _to_dataset(table: Any, names: tuple[str, ...]) -> Any:
    """Return a dataset over a stored parquet file; over the table in memory for any other file."""
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
    """A frame, or some columns of it, that pandas reads, and of which each part is converted to Arrow."""

    def __init__(
        self, registry: MaterializerRegistry, source: ArtifactReader, names: tuple[str, ...], metadata: str
    ) -> None:
        self._registry, self._source, self._names = registry, source, names
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
        view = View(None, self._names, batches=True)
        for part in self._registry.load_view(self._source, "pandas.parquet@1", view):
            yield frame_to_arrow(part)


def differing_rows(
    registry: MaterializerRegistry, before: StoredArtifact, after: StoredArtifact, limit: int
) -> RowDiff:
    """Return at most `limit` rows of each side that the other does not have, in any order; a repeated row counts each time.

    Rows are compared by the columns that both tables have. The first 100,000 rows of each table are read. Raise
    `ArtifactRefused` where an artifact is no table.
    """
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
    rows: list[Row] = []
    names: list[str] = []
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
