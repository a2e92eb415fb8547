"""Arrow tables, record batches and streams of them to files and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow import summarize_table
from airflow_zen.materializers.arrow.parquet_reader import ParquetTable
from airflow_zen.materializers.arrow.parquet_writer import (
    FILE_NAME,
    METADATA_KEY,
    WrittenParquet,
    pop_metadata,
    row_group_size,
    with_metadata,
    write_parquet,
)
from airflow_zen.materializers.arrow.schema import read_with_arrow_schema
from airflow_zen.materializers.base import Materializer, SavedBatches

if TYPE_CHECKING:
    from airflow_zen.artifacts.streaming import VerifiedStream
    from airflow_zen.materializers.registry import MaterializerRegistry

IPC_FILE_NAME = "table.arrow"
_RECORD_BATCH = "RecordBatch"


def stored_arrow_type(value: Any) -> type:
    """Give `pyarrow.Table` for a reader, which is gone through once, and for a dataset, which lies elsewhere."""
    return pa.Table if _is_stream(value) else type(value)


def save_arrow_batches(materializer: Materializer, batches: Iterator[Any], directory: Path) -> SavedBatches:
    """Write record batches or tables below one another, in the layout that the first one's schema needs."""
    first, batches = peek_batch(batches)
    saver = materializer.for_value(first)
    save = save_parquet_batches if saver is materializer else save_ipc_batches
    return SavedBatches(saver, pa.Table, save(batches, first.schema, directory))


def save_parquet(value: Any, directory: Path) -> Mapping[str, Any]:
    """Write `table.parquet`; a record batch is marked as one in its schema metadata."""
    if _is_stream(value):
        return save_parquet_batches(_read_batches(value), value.schema, directory)
    table = _to_table(value)
    written = _write_parquet_or_refuse([table], table.schema, directory)
    return _summarize_schema(value.schema, value.num_rows, written.column_statistics) | written.hash_summary()


def save_parquet_batches(batches: Iterator[Any], schema: pa.Schema, directory: Path) -> Mapping[str, Any]:
    """Write `table.parquet` batch by batch."""
    checked = _CheckedBatches(batches, schema)
    written = _write_parquet_or_refuse(checked, schema, directory)
    return _summarize_schema(schema, checked.rows, written.column_statistics) | written.hash_summary()


def _write_parquet_or_refuse(batches: Iterable[pa.Table], schema: pa.Schema, directory: Path) -> WrittenParquet:
    try:
        return write_parquet(batches, schema, directory / FILE_NAME)
    except pa.ArrowInvalid as error:
        raise SaveRefused(
            f"A value does not fit into parquet: {error}. Cast the column to a type that holds it there, such as "
            "timestamp[ms] or int64."
        ) from error


def save_ipc(value: Any, directory: Path) -> Mapping[str, Any]:
    """Write `table.arrow`."""
    if _is_stream(value):
        return save_ipc_batches(_read_batches(value), value.schema, directory)
    table = _to_table(value).combine_chunks()
    with _ipc_writer(directory, table.schema) as writer:
        writer.write_table(table)
    return _summarize_schema(value.schema, value.num_rows, {})


def save_ipc_batches(batches: Iterator[Any], schema: pa.Schema, directory: Path) -> Mapping[str, Any]:
    """Write `table.arrow` batch by batch, cut at the same rows whatever the batches."""
    checked = _CheckedBatches(batches, schema)
    with _ipc_writer(directory, schema) as writer:
        for group in _regroup_rows(checked, schema, row_group_size(schema)):
            _write_ipc_group(writer, group)
    return _summarize_schema(schema, checked.rows, {})


def _regroup_rows(batches: Iterable[pa.Table], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """Cut batches anew into tables of `rows` rows; the last has what is left, which may be none."""
    pending, pending_rows = [schema.empty_table()], 0
    for batch in batches:
        pending.append(batch)
        pending_rows += batch.num_rows
        if pending_rows < rows:
            continue
        joined = pa.concat_tables(pending)
        whole = pending_rows // rows * rows
        yield from (joined.slice(at, rows) for at in range(0, whole, rows))
        pending, pending_rows = [joined.slice(whole)], pending_rows - whole
    yield pa.concat_tables(pending)


def _is_stream(value: Any) -> bool:
    return isinstance(value, pa.RecordBatchReader) or hasattr(value, "scanner")


def _read_batches(value: Any) -> Iterator[Any]:
    return iter(value if isinstance(value, pa.RecordBatchReader) else value.scanner().to_reader())


def load_arrow_table(registry: MaterializerRegistry, directory: Path, encoding: str) -> Any:
    """Read any tabular encoding as Arrow."""
    if encoding == "pyarrow.ipc@1":
        with pa.OSFile(str(directory / IPC_FILE_NAME)) as file:
            return _from_table(pa.ipc.open_file(file).read_all())
    if encoding == "pandas.parquet@1":
        return _pandas_table(registry, directory)
    table = read_with_arrow_schema(pq.ParquetFile(directory / FILE_NAME, memory_map=True))
    return _from_table(table) if encoding == "pyarrow.parquet@1" else pop_metadata(table)[0]


def load_arrow_stream(file: VerifiedStream) -> Any:
    """Read a parquet file of this family while it arrives."""
    with file:
        return _from_table(pa.concat_tables(ParquetTable(file).batches()))


class _CheckedBatches:
    """Go through batches as tables, each like the first, and count their rows."""

    def __init__(self, batches: Iterator[Any], schema: pa.Schema) -> None:
        _check_metadata_key(schema)
        self.rows = 0
        self._batches = batches
        self._schema = schema

    def __iter__(self) -> Iterator[pa.Table]:
        for number, batch in enumerate(self._batches):
            if not isinstance(batch, pa.RecordBatch | pa.Table):
                raise SaveRefused(f"Batch {number} is a {type(batch).__qualname__}, the first is an Arrow table.")
            check_same_schema(number, batch.schema, self._schema)
            self.rows += batch.num_rows
            yield batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])


def _ipc_writer(directory: Path, schema: pa.Schema) -> Any:
    options = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)
    return pa.ipc.new_file(directory / IPC_FILE_NAME, schema, options=options)


def _write_ipc_group(writer: Any, rows: pa.Table) -> None:
    try:
        writer.write_table(rows.combine_chunks())
    except pa.ArrowException as error:
        raise SaveRefused(
            f"The batches do not fit into one Arrow file: {error}. Give dictionary columns the same dictionary in all "
            f"batches, or cast them to their value type."
        ) from error


def _to_table(value: Any) -> pa.Table:
    _check_metadata_key(value.schema)
    if type(value) is pa.Table:
        # No metadata, and metadata that is empty, are read alike.
        return value.replace_schema_metadata() if value.schema.metadata == {} and value.num_columns else value
    if type(value) is pa.RecordBatch:
        return with_metadata(pa.Table.from_batches([value]), _RECORD_BATCH)
    raise SaveRefused(f"{type(value).__qualname__} would come back as a pyarrow.Table. Return a pyarrow.Table.")


def _check_metadata_key(schema: pa.Schema) -> None:
    if METADATA_KEY in (schema.metadata or {}):
        raise SaveRefused(
            f"The schema metadata key {METADATA_KEY.decode()!r} is taken by this package. Use another key."
        )


def _from_table(table: pa.Table) -> Any:
    table, marker = pop_metadata(table)
    if marker != _RECORD_BATCH:
        return table
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _pandas_table(registry: MaterializerRegistry, directory: Path) -> pa.Table:
    stored = ParquetTable(directory / FILE_NAME)
    if not stored.zen_metadata:
        return stored.read()
    frame = registry.load(directory, "pandas.parquet@1")
    return pa.Table.from_pandas(frame if hasattr(frame, "columns") else frame.to_frame())


def _summarize_schema(schema: pa.Schema, rows: int, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    columns = [{"name": field.name, "type": str(field.type), **known.get(field.name, {})} for field in schema]
    return summarize_table(rows, columns)


T = TypeVar("T")


def peek_batch(batches: Iterator[T]) -> tuple[T, Iterator[T]]:
    """Give the first batch, and all of them."""
    first = next(batches)
    return first, chain([first], batches)


def check_same_schema(number: int, schema: pa.Schema, first: pa.Schema) -> None:
    """Refuse a batch whose columns differ from those of the first; metadata does not count."""
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
