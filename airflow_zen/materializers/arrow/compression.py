"""Which columns of a parquet file are worth compressing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

_CODEC = "zstd"
_LEVEL = 1
# Fewer bytes in a row group are compressed in no time.
_WORTH_ASKING = 512 * 1024
_TRIED = 256 * 1024
# Measured on 2,000,000 rows × 8 random floats: zstd leaves 94 % of them, and costs 45 % of the CPU of reading the file.
# Floats of few digits, and those that repeat, come to 60 % and less.
_LEAST_GAIN = 1 / 8


def compression(group: pa.Table) -> Mapping[str, Any]:
    """Give the options of a writer whose first row group this is: zstd at level 1, but for columns that gain little.

    Asked are floats only, whose values seldom repeat. The same rows always give the same answer.
    """
    fields = zip(group.schema, group.columns, strict=True)
    dense = {field.name for field, column in fields if _is_dense(column)}
    if not dense:
        return {"compression": _CODEC, "compression_level": _LEVEL}
    packed = [path for path in _paths(group.schema) if path not in dense]
    return {
        "compression": {**dict.fromkeys(packed, _CODEC), **dict.fromkeys(dense, "none")},
        "compression_level": dict.fromkeys(packed, _LEVEL),
    }


def _is_dense(column: pa.ChunkedArray) -> bool:
    """Tell whether a piece from the middle of a column hardly gets smaller."""
    width = _width(column.type)
    if not width or len(column) * width < _WORTH_ASKING:
        return False
    rows = _TRIED // width
    piece = pa.concat_arrays(column.slice((len(column) - rows) // 2, rows).chunks)
    values = piece.buffers()[1].slice(piece.offset * width, len(piece) * width)
    smaller = pa.Codec(_CODEC, compression_level=_LEVEL).compress(values)
    return bool(smaller.size > values.size * (1 - _LEAST_GAIN))


def _width(dtype: Any) -> int:
    """Give the bytes of a value; 0 for types that are not asked."""
    return int(dtype.bit_width) // 8 if types.is_floating(dtype) else 0


def _paths(schema: pa.Schema) -> list[str]:
    """Name the columns as parquet does, which has one for each leaf of a nested type."""
    file = io.BytesIO()
    pq.write_metadata(schema, file)
    file.seek(0)
    written = pq.read_metadata(file).schema
    return [written.column(position).path for position in range(len(written))]
