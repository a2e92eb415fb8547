"""How every parquet of ours is written: the same bytes for the same table, fast, readable by any engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

FILE_NAME = "table.parquet"
NOTE = b"airflow_zen"
ROWS_IN_A_GROUP = 1 << 20


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write with zstd at level 1; how the table is chunked in memory does not change the bytes."""
    pq.write_table(
        _unchunked(table),
        path,
        row_group_size=ROWS_IN_A_GROUP,
        compression="zstd",
        compression_level=1,
        use_dictionary=[field.name for field in table.schema if _repeats(field.type)],
    )


def with_note(table: pa.Table, note: str) -> pa.Table:
    """Add a text to the schema metadata, where parquet keeps it in the file."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), NOTE: note})


def take_note(table: pa.Table) -> tuple[pa.Table, str]:
    """Split a table into what was saved and the text that was added; `""` when there is none."""
    metadata = dict(table.schema.metadata or {})
    if NOTE not in metadata:
        return table, ""
    note = metadata.pop(NOTE).decode()
    return table.replace_schema_metadata(metadata or None), note


def _unchunked(table: pa.Table) -> pa.Table:
    return table.combine_chunks() if any(column.num_chunks > 1 for column in table.columns) else table


def _repeats(dtype: Any) -> bool:
    """Tell whether values of a type often repeat; a dictionary of floats only costs time."""
    return not (types.is_floating(dtype) or types.is_timestamp(dtype) or types.is_nested(dtype))
