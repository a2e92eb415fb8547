"""Some columns of a stored table as Arrow, its record batches, or a dataset over it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from airflow_zen.artifacts.source import ArtifactSource
from airflow_zen.materializers.arrow.parquet import NOTE, take_note
from airflow_zen.materializers.arrow.stored import StoredTable, check_columns, says_it_all
from airflow_zen.materializers.arrow.tables import IPC_FILE_NAME
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.views import View


def load_view(registry: MaterializerRegistry, source: ArtifactSource, encoding: str, view: View) -> Any:
    """Read what is asked for: a dataset, a reader, an iterator of batches, or a table of some columns."""
    kind = view.cls.__qualname__ if view.cls else "Table"
    if encoding == "pyarrow.ipc@1":
        return _shown(_IpcBatches(source.directory() / IPC_FILE_NAME), kind, view)
    stored = StoredTable.of(source)
    if encoding == "pandas.parquet@1" and not says_it_all(stored.note):
        return _shown(_ThroughPandas(registry, source, view.columns, stored.note), kind, view)
    return _shown(stored, kind, view)


def _shown(table: Any, kind: str, view: View) -> Any:
    check_columns(view.columns, table.schema.names)
    if kind.endswith("Dataset"):
        return _dataset(table, view.columns)
    if kind == "RecordBatchReader":
        batches = map(_one, table.batches(view.columns))
        first = next(batches)
        # What is read has other types than what was written where dictionaries are, and labels beside its columns.
        return pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
    if not view.batches:
        read = take_note(table.read(view.columns))[0]
        return _one(read) if kind == "RecordBatch" else read
    parts = (take_note(part)[0] for part in table.batches(view.columns))
    return map(_one, parts) if kind == "RecordBatch" else parts


def _dataset(table: Any, names: tuple[str, ...]) -> Any:
    """Make a dataset over a parquet file where it lies; over anything else in memory."""
    if not isinstance(table, StoredTable):
        return ds.dataset(table.read(names))
    schema = _unmarked(_readable(table.schema, table.read_schema))
    schema = pa.schema([schema.field(name) for name in names], schema.metadata) if names else schema
    if isinstance(table.opened, Path):
        return ds.dataset(table.opened, schema=schema, format="parquet")
    form = ds.ParquetFileFormat()
    return ds.FileSystemDataset([form.make_fragment(pa.PythonFile(table.opened, mode="r"))], schema, form)


def _readable(written: pa.Schema, read: pa.Schema) -> pa.Schema:
    """Give the schema a table was written from; dictionaries stay as they are read."""
    fields = [one if pa.types.is_dictionary(one.type) else other for one, other in zip(read, written, strict=True)]
    return pa.schema(fields, written.metadata)


def _one(table: pa.Table) -> pa.RecordBatch:
    table = take_note(table)[0]
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _unmarked(schema: pa.Schema) -> pa.Schema:
    metadata = {name: value for name, value in (schema.metadata or {}).items() if name != NOTE}
    return schema.with_metadata(metadata or None)


def columns_with_nulls(source: ArtifactSource, encoding: str) -> set[str]:
    """Name the columns of a stored table that have a null somewhere."""
    if encoding != "pyarrow.ipc@1":
        return StoredTable.of(source).with_nulls()
    found: set[str] = set()
    for batch in _IpcBatches(source.directory() / IPC_FILE_NAME).batches():
        found |= {name for name, column in zip(batch.column_names, batch.columns, strict=True) if column.null_count}
    return found


class _IpcBatches:
    """Read an Arrow file batch by batch, mapped into memory."""

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


class _ThroughPandas:
    """Read a frame whose columns only pandas understands, or some of them, and show each part as Arrow."""

    def __init__(
        self, registry: MaterializerRegistry, source: ArtifactSource, names: tuple[str, ...], note: str
    ) -> None:
        self._registry = registry
        self._source = source
        self._names = names
        self._cast = '"as":"object"' in note
        if self._cast:
            # What objects are as Arrow depends on those of all parts, which are read for it once more.
            source.directory()
        schemas = (part.schema for part in self._parts())
        known = list(schemas) if self._cast else [next(schemas)]
        self.schema = pa.unify_schemas(known, promote_options="permissive")

    def read(self, _: tuple[str, ...] = ()) -> pa.Table:
        return pa.concat_tables(self.batches())

    def batches(self, _: tuple[str, ...] = ()) -> Iterator[pa.Table]:
        return (part.cast(self.schema) for part in self._parts()) if self._cast else self._parts()

    def _parts(self) -> Iterator[pa.Table]:
        view = View(None, self._names, batches=True)
        for part in self._registry.load_view(self._source, "pandas.parquet@1", view):
            yield pa.Table.from_pandas(part if hasattr(part, "columns") else part.to_frame())
