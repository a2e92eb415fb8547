"""Tell from a schema alone whether parquet brings it back unchanged."""

from __future__ import annotations

import base64
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
    """Try the schema on an empty table: types that parquet stores by value, and names, come back the same.

    Types whose *values* parquet may change are not tried: `date64` loses the time of day, dictionaries
    their unused values, fixed-size lists their missing ones. A table without columns loses its row count.
    """
    if not len(schema) or not all(_is_lossless(field.type) for field in schema):
        return False
    sink = pa.BufferOutputStream()
    empty = schema.empty_table()
    try:
        pq.write_table(empty, sink)
        read = read_with_arrow_schema(pq.ParquetFile(pa.BufferReader(sink.getvalue())))
    except pa.ArrowException:
        return False
    return bool(read.schema.equals(schema, check_metadata=True))


def read_with_arrow_schema(file: pq.ParquetFile) -> pa.Table:
    """Read a parquet file under the Arrow schema it was written from.

    Parquet has no seconds and its own names for list elements; the casts undo both. Dictionaries stay as
    they are read.
    """
    return cast_to_written_schema(file.read(), read_arrow_schema(file))


def cast_to_written_schema(table: pa.Table, written: pa.Schema | None) -> pa.Table:
    """Cast a table, or some columns of it, back to the schema it was written from."""
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
    """Read the Arrow schema that a parquet file keeps beside its own."""
    stored = (file.metadata.metadata or {}).get(b"ARROW:schema")
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored))) if stored else None


def _is_lossless(dtype: Any) -> bool:
    if any(check(dtype) for check in _NESTED_TYPES):
        children = [dtype.field(position).type for position in range(dtype.num_fields)]
        return bool(children) and all(_is_lossless(child) for child in children)
    return any(check(dtype) for check in _LOSSLESS_TYPES)
