"""Arrow tables and record batches to files and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.exact import restore_schema
from airflow_zen.materializers.arrow.parquet import FILE_NAME, NOTE, take_note, with_note, write_parquet
from airflow_zen.materializers.arrow.summary import describe
from airflow_zen.materializers.registry import MaterializerRegistry

IPC_FILE_NAME = "table.arrow"
_BATCH = "RecordBatch"


def save_parquet(value: Any, directory: Path) -> Mapping[str, Any]:
    """Write `table.parquet`; a record batch is marked as one in its schema metadata."""
    table = _table(value)
    write_parquet(table, directory / FILE_NAME)
    return _summary(value)


def save_ipc(value: Any, directory: Path) -> Mapping[str, Any]:
    """Write `table.arrow`."""
    table = _table(value).combine_chunks()
    options = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)
    with pa.ipc.new_file(directory / IPC_FILE_NAME, table.schema, options=options) as writer:
        writer.write_table(table)
    return _summary(value)


def load_table(registry: MaterializerRegistry, directory: Path, encoding: str) -> Any:
    """Read any tabular encoding as Arrow."""
    if encoding == "pyarrow.ipc@1":
        with pa.OSFile(str(directory / IPC_FILE_NAME)) as file:
            return _value(pa.ipc.open_file(file).read_all())
    if encoding == "pandas.parquet@1":
        return _from_pandas(registry, directory)
    table = restore_schema(pq.ParquetFile(directory / FILE_NAME))
    return _value(table) if encoding == "pyarrow.parquet@1" else take_note(table)[0]


def _table(value: Any) -> pa.Table:
    if NOTE in (value.schema.metadata or {}):
        raise SaveRefused(f"The schema metadata key {NOTE.decode()!r} is taken by this package. Use another key.")
    if type(value) is pa.Table:
        return value
    if type(value) is pa.RecordBatch:
        return with_note(pa.Table.from_batches([value]), _BATCH)
    raise SaveRefused(f"{type(value).__qualname__} would come back as a pyarrow.Table. Return a pyarrow.Table.")


def _value(table: pa.Table) -> Any:
    table, note = take_note(table)
    if note != _BATCH:
        return table
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _from_pandas(registry: MaterializerRegistry, directory: Path) -> pa.Table:
    table, note = take_note(pq.ParquetFile(directory / FILE_NAME).read())
    if not note:
        return table
    frame = registry.load(directory, "pandas.parquet@1")
    return pa.Table.from_pandas(frame if hasattr(frame, "columns") else frame.to_frame())


def _summary(value: Any) -> dict[str, Any]:
    columns = [{"name": field.name, "type": str(field.type)} for field in value.schema]
    return describe(value.num_rows, columns)
