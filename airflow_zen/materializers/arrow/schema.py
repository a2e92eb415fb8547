"""Arrow schemas in parquet: whether they come back unchanged, and how they are restored."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

_LOSSLESS_TYPES = (
    types.is_boolean,
    types.is_integer,
    types.is_floating,
    types.is_string,
    types.is_large_string,
    types.is_binary,
    types.is_large_binary,
    types.is_fixed_size_binary,
    types.is_date32,
    types.is_time,
    types.is_timestamp,
    types.is_duration,
    types.is_decimal,
    types.is_null,
)
_NESTED_TYPES = (types.is_list, types.is_large_list, types.is_struct, types.is_map)


def roundtrips_in_parquet(schema: pa.Schema) -> bool:
    """Whether a table of a schema comes back the same from parquet; an empty table is written to find out.

    False also for types whose values parquet may change: `date64` loses the time of day, dictionaries their unused
    values, fixed-size lists their missing ones. A table without columns loses its row count.
    """
    if not len(schema) or not all(_is_lossless(field.type) for field in schema):
        return False
    sink = pa.BufferOutputStream()
    empty = schema.empty_table()
    try:
        pq.write_table(empty, sink)
        file = pq.ParquetFile(pa.BufferReader(sink.getvalue()))
        read = cast_to_written_schema(file.read(), read_arrow_schema(file))
    except pa.ArrowException:
        return False
    return bool(read.schema.equals(schema, check_metadata=True))


def cast_to_written_schema(table: pa.Table, written: pa.Schema | None) -> pa.Table:
    """Return a table, or some columns of it, cast to the Arrow schema that it was written from.

    Parquet has no seconds, and its own names for list elements. Dictionaries stay as they are read.
    """
    if written is None or table.schema.equals(written, check_metadata=True):
        return table
    whole = table.column_names == written.names
    fields = list(written) if whole else [written.field(name) for name in table.column_names]
    columns = [_cast_column(column, field.type) for column, field in zip(table.columns, fields, strict=True)]
    fields = [field.with_type(column.type) for column, field in zip(columns, fields, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, written.metadata))


def _cast_column(column: pa.ChunkedArray, dtype: pa.DataType) -> pa.ChunkedArray:
    if types.is_dictionary(dtype):
        # A dictionary of durations is read as integers.
        lost = types.is_duration(dtype.value_type) and types.is_integer(column.type)
        return column.cast(dtype.value_type) if lost else column
    return column if column.type.equals(dtype, check_metadata=True) else column.cast(dtype)


def read_arrow_schema(file: pq.ParquetFile) -> pa.Schema | None:
    """Return the Arrow schema in the metadata of a parquet file; None where it has none."""
    stored = (file.metadata.metadata or {}).get(b"ARROW:schema")
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored))) if stored else None


def _is_lossless(dtype: Any) -> bool:
    if any(check(dtype) for check in _NESTED_TYPES):
        children = [dtype.field(position).type for position in range(dtype.num_fields)]
        return bool(children) and all(_is_lossless(child) for child in children)
    return any(check(dtype) for check in _LOSSLESS_TYPES)


def unique_columns(schema: pa.Schema) -> set[str]:
    """Return the names that only one column has, and that cannot be mistaken for the path of a nested column."""
    return {name for name, count in Counter(schema.names).items() if count == 1 and "." not in name}
