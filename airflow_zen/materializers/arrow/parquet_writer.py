"""Write parquet files: the same bytes for the same rows, however they are cut into batches, readable by any engine.

Also whether the schema of a table comes back from such a file, and how it is restored.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from airflow_zen.artifacts.hashing import HashedFile
from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.statistics import StatisticsCollector, estimate_distinct

FILE_NAME = "table.parquet"
METADATA_KEY = b"airflow_zen"

# Measured on 2,000,000 rows × 10 columns: groups of 262144 rows take 5 % more CPU than groups of 1048576, and a batch
# that is read or written needs a quarter of the memory. Wide tables have fewer rows in a group for the same reason.
MAX_ROW_GROUP_SIZE = 1 << 18
MIN_ROW_GROUP_SIZE = 1 << 10
_MAX_ROW_GROUP_BYTES = 64 * 1024 * 1024
_DEFAULT_VALUE_BYTES = 32
# Measured on 2,000,000 rows × 8 floats: pages of 20,000 rows, the default of newer releases of pyarrow, take 0.105 s of
# processor time to write and 0.026 to read, pages of 1 MiB 0.059 and 0.021. Older releases limit pages by bytes only.
_PAGE_OPTIONS = (
    {"max_rows_per_page": MAX_ROW_GROUP_SIZE} if "max_rows_per_page" in signature(pq.ParquetWriter).parameters else {}
)
# Given, although they are the defaults of today: the bytes of a table are the same in every release of pyarrow.
_FORMAT_OPTIONS = {"version": "2.6", "data_page_version": "1.0", "data_page_size": 1 << 20, "write_batch_size": 1024}
_CREATED_BY = b"airflow-provider-zen version 1.0.0"
# The length of the footer, and `PAR1`.
_FILE_END_BYTES = 8

_CODEC = "zstd"
_COMPRESSION_LEVEL = 1
# A smaller row group is compressed without a trial.
_MIN_TESTED_BYTES = 512 * 1024
_TRIAL_BYTES = 256 * 1024
# Measured on 2,000,000 rows × 8 random floats: zstd leaves 94 % of them, and costs 45 % of the CPU of reading the file.
# Floats of few digits, and repeated ones, are compressed to 60 % and less.
_MIN_SAVING = 1 / 8

# A row group of fewer rows has dictionaries.
_MIN_COLUMN_ROWS = 1 << 16
_SAMPLE_ROWS = 1 << 13
# Measured on 1,000,000 integers below 1e9: a dictionary in which nothing repeats takes 134 ms to write, 19 ms to read and
# 5.2 MB; differences take 20 ms, 4 ms and 3.9 MB. Sorted timestamps, as they are: 20 ms, 12 ms and 7.1 MB; differences
# 31 ms, 5 ms and 4.5 MB. Values of all 64 bits, each of which occurs four times, need half as much in a dictionary.
_MIN_REPETITIONS = 4

_LOSSLESS_TYPES = (
    *(types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_null),
    *(types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
    *(types.is_date32, types.is_time, types.is_timestamp, types.is_duration),
)
_NESTED_TYPES = (types.is_list, types.is_large_list, types.is_struct, types.is_map)


@dataclass(frozen=True)
class WrittenParquet:
    """The facts of a written file: its rows, the statistics of each column by its name in the file, and its hash.

    With the hash in `hashes` of the summary, the store does not hash the file again.
    """

    rows: int
    column_statistics: Mapping[str, Mapping[str, Any]]
    hash: str


def write_parquet(batches: Iterable[pa.Table], schema: pa.Schema, path: Path) -> WrittenParquet:
    """Write tables of one schema as one file, with zstd at level 1 except for columns that it hardly compresses.

    How the rows are cut into batches and chunks does not change the bytes. At most one row group and one
    batch are held in memory. Raise `SaveRefused` for a value that parquet does not have.

    On the 2,000,000 rows zstd gives files 7 % smaller than lz4, on real tables with repeated values a third smaller, for
    0.2 s more CPU. Each upload, hash and download saves these bytes again.
    """
    statistics, groups = StatisticsCollector(schema), map(_single_chunks, regroup_rows(batches, schema))
    footers: list[pq.FileMetaData] = []
    with HashedFile(path) as file:
        try:
            group = next(groups)
            options = {**_FORMAT_OPTIONS, **encoding_options(group), **compression_options(group), **_PAGE_OPTIONS}
            with pq.ParquetWriter(file, schema, metadata_collector=footers, **options) as writer:
                while group is not None:
                    writer.write_table(group, row_group_size=max(1, group.num_rows))
                    statistics.add(group)
                    group = None  # the next group takes the memory of this one
                    group = next(groups, None)
                footer = file.hold()
        except pa.ArrowException as error:
            raise SaveRefused(
                f"A value does not fit into parquet: {error}. Cast the column to a type that holds it there, such as "
                "timestamp[ms] or int64."
            ) from error
        file.release(_replace_created_by(footer, footers[0].created_by.encode()))
    return WrittenParquet(footers[0].num_rows, statistics.column_statistics(footers[0]), file.hash)


def _replace_created_by(footer: bytearray, library: bytes) -> bytes:
    """Return the footer with our own name in place of the library and its version.

    So equal tables are equal bytes in every release of pyarrow. `created_by` is the last text of the footer, and follows its
    length (`FileMetaData` in parquet.thrift).
    """
    start = footer.rindex(library)
    text = (
        footer[: start - 1] + bytes([len(_CREATED_BY)]) + _CREATED_BY + footer[start + len(library) : -_FILE_END_BYTES]
    )
    return bytes(text) + len(text).to_bytes(4, "little") + b"PAR1"


def regroup_rows(batches: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Cut batches into tables of one row group each; the last has the remaining rows. At least one is returned."""
    size, pending, rows, is_empty = row_group_size(schema), list[pa.Table](), 0, True
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        if rows < size:
            continue
        joined, whole, is_empty = _concat(pending), rows // size * size, False
        for at in range(0, whole, size):
            yield joined.slice(at, size)
        # A slice of no rows would keep the whole batch in memory.
        pending, rows = [joined.slice(whole)] if rows > whole else [], rows - whole
        del batch, joined
    if rows or is_empty:
        yield _concat(pending) if pending else schema.empty_table()


def _concat(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables) if len(tables) > 1 else tables[0]


def _single_chunks(rows: pa.Table) -> pa.Table:
    return rows.combine_chunks() if any(column.num_chunks > 1 for column in rows.columns) else rows


def row_group_size(schema: pa.Schema) -> int:
    """Return the rows of a group, which depend only on the schema, so that the same rows give the same groups."""
    return row_group_size_for_width(sum(_estimate_width(field.type) for field in schema))


def row_group_size_for_width(width: int) -> int:
    """Return how many rows of `width` bytes make a group: a power of two, of 64 MiB or less."""
    group_rows = 1 << max(0, (_MAX_ROW_GROUP_BYTES // max(1, width)).bit_length() - 1)
    return max(MIN_ROW_GROUP_SIZE, min(MAX_ROW_GROUP_SIZE, group_rows))


def with_metadata(table: pa.Table, text: str | bytes) -> pa.Table:
    """Return a table with a text in its schema metadata, which parquet keeps in the file."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA_KEY: text})


def pop_metadata(table: pa.Table) -> tuple[pa.Table, str]:
    """Return a table without the text that `with_metadata` added, and that text; `""` where there is none."""
    metadata = dict(table.schema.metadata or {})
    if METADATA_KEY not in metadata:
        return table, ""
    text = metadata.pop(METADATA_KEY).decode()
    return table.replace_schema_metadata(metadata or None), text


@cache
def _estimate_width(dtype: Any) -> int:
    try:
        return max(1, int(dtype.bit_width) // 8)
    except ValueError:
        return _DEFAULT_VALUE_BYTES


def compression_options(group: pa.Table) -> Mapping[str, Any]:
    """Return the compression options of a writer whose first row group this is: none for columns that gain little.

    Only floats, whose values seldom repeat, are tried. The same rows always give the same options.
    """
    fields = zip(group.schema, group.columns, strict=True)
    incompressible = {field.name for field, column in fields if _is_incompressible(column)}
    if not incompressible:
        return {"compression": _CODEC, "compression_level": _COMPRESSION_LEVEL}
    # Parquet has a column for each leaf of a nested type.
    sink = pa.BufferOutputStream()
    pq.write_metadata(group.schema, sink)
    written = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    paths = [written.column(position).path for position in range(len(written))]
    compressed = [path for path in paths if path not in incompressible]
    return {
        "compression": {**dict.fromkeys(compressed, _CODEC), **dict.fromkeys(incompressible, "none")},
        "compression_level": dict.fromkeys(compressed, _COMPRESSION_LEVEL),
    }


def _is_incompressible(column: pa.ChunkedArray) -> bool:
    """Whether zstd hardly compresses a piece from the middle of a column of floats."""
    width = int(column.type.bit_width) // 8 if types.is_floating(column.type) else 0
    if len(column) * width < _MIN_TESTED_BYTES:
        return False
    rows = _TRIAL_BYTES // width
    sample = pa.concat_arrays(column.slice((len(column) - rows) // 2, rows).chunks)
    values = sample.buffers()[1].slice(sample.offset * width, len(sample) * width)
    smaller = pa.Codec(_CODEC, compression_level=_COMPRESSION_LEVEL).compress(values)
    return bool(smaller.size > values.size * (1 - _MIN_SAVING))


def encoding_options(group: pa.Table) -> Mapping[str, Any]:
    """Return the encoding options of a writer whose first row group this is.

    Large integers and times that do not repeat are written as differences, other values than floats with a dictionary.
    The same rows always give the same options.
    """
    fields = zip(group.schema, group.columns, strict=True)
    deltas = {it.name for it, column in fields if _is_delta_encodable(it.type) and not _has_repeated_values(column)}
    # A dictionary of floats only takes time.
    others = (it for it in group.schema if not types.is_floating(it.type) and not types.is_nested(it.type))
    return {
        "use_dictionary": [field.name for field in others if field.name not in deltas],
        "column_encoding": dict.fromkeys(deltas, "DELTA_BINARY_PACKED") or None,
    }


def _has_repeated_values(column: pa.ChunkedArray) -> bool:
    """Whether, by a sample from the middle of the column, most values occur several times."""
    if len(column) < _MIN_COLUMN_ROWS:
        return True
    sample = column.slice((len(column) - _SAMPLE_ROWS) // 2, _SAMPLE_ROWS).drop_null()
    rows = len(column) - column.null_count
    return not len(sample) or estimate_distinct(sample, rows) * _MIN_REPETITIONS < rows


@cache
def _is_delta_encodable(dtype: Any) -> bool:
    """Whether parquet stores the values as integers of 32 or 64 bits; those of fewer bits repeat."""
    times = types.is_timestamp(dtype) or types.is_duration(dtype) or types.is_time(dtype) or types.is_date32(dtype)
    return bool(times or (types.is_integer(dtype) and dtype.bit_width >= 32))


def roundtrips_in_parquet(schema: pa.Schema) -> bool:
    """Whether a table of a schema comes back the same from parquet; an empty table is written to find out.

    False also for types whose values parquet may change: `date64` loses the time of day, dictionaries their unused
    values, fixed-size lists their missing ones. A table without columns loses its row count.
    """
    if not len(schema) or not all(_is_lossless(field.type) for field in schema):
        return False
    sink, empty = pa.BufferOutputStream(), schema.empty_table()
    try:
        pq.write_table(empty, sink)
        file = pq.ParquetFile(pa.BufferReader(sink.getvalue()))
        read = cast_to_written_schema(file.read(), read_arrow_schema(file))
    except pa.ArrowException:
        return False
    return bool(read.schema.equals(schema, check_metadata=True))


def cast_to_written_schema(table: pa.Table, written: pa.Schema) -> pa.Table:
    """Return a table, or some columns of it, cast to the Arrow schema that it was written from.

    Parquet has no seconds, and its own names for list elements. Dictionaries stay as they are read.
    """
    if table.schema.equals(written, check_metadata=True):
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


def read_arrow_schema(file: pq.ParquetFile) -> pa.Schema:
    """Return the Arrow schema that a parquet file was written from; that of its columns where it is not recorded."""
    stored = (file.metadata.metadata or {}).get(b"ARROW:schema")
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored))) if stored else file.schema_arrow


def _is_lossless(dtype: Any) -> bool:
    if any(check(dtype) for check in _NESTED_TYPES):
        children = [dtype.field(position).type for position in range(dtype.num_fields)]
        return bool(children) and all(_is_lossless(child) for child in children)
    return any(check(dtype) for check in _LOSSLESS_TYPES)


def unique_columns(schema: pa.Schema) -> set[str]:
    """Return the names that only one column has, and that cannot be mistaken for the path of a nested column."""
    return {name for name, count in Counter(schema.names).items() if count == 1 and "." not in name}
