"""Columns of NumPy dtypes, whose Arrow type says it all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.pandas.rooms import ArrayBuffer, ChunkBuffer, ColumnBuffer
from airflow_zen.materializers.pandas.stored import ArrowColumn, PandasMetadata
from airflow_zen.materializers.pandas.strings import DEFAULT_STRING

_PANDAS_DTYPES = {pa.large_string(): DEFAULT_STRING}

_ARROW_DTYPE_CHARS = "?bhilqBHILQefdMm"


def numpy_to_arrow(values: Any) -> ArrowColumn:
    """Wrap numbers, times and durations without copying; NaN and NaT become null, as every engine expects."""
    dtype = values.dtype
    if dtype.char in "FD":
        return ArrowColumn(values, _complex_to_struct, {"as": "complex", "dtype": dtype.name})
    if dtype.char in _ARROW_DTYPE_CHARS and dtype.isnative:
        return ArrowColumn(values, lambda part: pa.array(part, from_pandas=True))
    raise SaveRefused(f"A column of dtype {dtype!r} is not stored. Convert it to a dtype that Arrow has.")


def default_buffer(arrow_type: pa.DataType, rows: int) -> ColumnBuffer:
    """Make room for a column that has no note."""
    dtype = numpy_dtype(arrow_type)
    return (
        ArrayBuffer(dtype, rows, lambda chunk: chunk_to_numpy(chunk, "A column"))
        if dtype
        else ChunkBuffer(arrow_type, _chunks_to_pandas)
    )


def complex_buffer(_: pa.DataType, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room where the real and imaginary parts are joined."""
    return ArrayBuffer(metadata["dtype"], rows, lambda chunk: _struct_to_complex(chunk, metadata["dtype"]))


def numpy_dtype(arrow_type: pa.DataType) -> str:
    """Name the dtype of a column that `numpy_to_arrow` wrote without a note; `""` for any other."""
    if types.is_integer(arrow_type) or types.is_floating(arrow_type) or types.is_boolean(arrow_type):
        return str(np.dtype(arrow_type.to_pandas_dtype()))
    if types.is_duration(arrow_type) or (types.is_timestamp(arrow_type) and arrow_type.tz is None):
        return f"{'m' if types.is_duration(arrow_type) else 'M'}8[{arrow_type.unit}]"
    return ""


def chunk_to_numpy(chunk: pa.Array, what: str) -> Any:
    """Give a piece of a column that `numpy_dtype` names; `what` it is opens the error for nulls that it cannot have."""
    if chunk.null_count and (types.is_integer(chunk.type) or types.is_boolean(chunk.type)):
        raise ArtifactRefused(
            f"{what} of {chunk.type} has nulls and no note that says what they are, so pandas did not write it. "
            "Read it as a pyarrow.Table."
        )
    return chunk.to_numpy(zero_copy_only=False)


def _complex_to_struct(values: Any) -> pa.Array:
    parts = [pa.array(np.ascontiguousarray(part)) for part in (values.real, values.imag)]
    return pa.StructArray.from_arrays(parts, ["real", "imag"])


def _struct_to_complex(chunk: pa.Array, dtype: str) -> Any:
    values = np.empty(len(chunk), dtype)
    values.real, values.imag = (chunk.field(name).to_numpy() for name in ("real", "imag"))
    return values


def _chunks_to_pandas(array: pa.ChunkedArray) -> Any:
    series = array.to_pandas(types_mapper=_PANDAS_DTYPES.get)
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array
