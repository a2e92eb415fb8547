"""Columns of NumPy, string, nullable, Arrow-backed, zoned and period dtypes as Arrow, and back."""

from __future__ import annotations

from datetime import timedelta, tzinfo
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.arrow.schema import roundtrips_in_parquet
from airflow_zen.materializers.pandas.buffers import ArrowColumn, Buffer, ChunkBuffer, ColumnBuffer, PandasMetadata
from airflow_zen.materializers.pandas.dtype_names import (
    DEFAULT_STRING,
    string_dtype,
    string_metadata,
    timezone_from_metadata,
    timezone_metadata,
)

_ARROW_DTYPE_CHARS = "?bhilqBHILQefdMm"
_PANDAS_DTYPES = {pa.large_string(): DEFAULT_STRING}
_NAT = int(np.iinfo("int64").min)


def numpy_to_arrow(values: Any) -> ArrowColumn:
    """Wrap numbers, times and durations without a copy; NaN and NaT become null, as other engines expect."""
    dtype = values.dtype
    if dtype.char in "FD":
        return ArrowColumn(values, _complex_to_struct, {"as": "complex", "dtype": dtype.name})
    if dtype.char in _ARROW_DTYPE_CHARS and dtype.isnative:
        return ArrowColumn(values, partial(pa.array, from_pandas=True))
    raise SaveRefused(f"A column of dtype {dtype!r} is not stored. Convert it to a dtype that Arrow has.")


def default_buffer(arrow_type: pa.DataType, rows: int, what: str = "A column", array: Any = None) -> Buffer:
    """Return the buffer of a column without metadata; `what` names it in errors, `array` takes the values of NumPy dtypes."""
    if array is not None or numpy_dtype(arrow_type):
        return ColumnBuffer(arrow_type, rows, partial(_chunk_to_numpy, what=what), array=array)
    return ChunkBuffer(arrow_type, _chunks_to_pandas)


def numpy_dtype(arrow_type: pa.DataType) -> str:
    """Return the NumPy dtype of a column that is stored without metadata; `""` for any other type."""
    if types.is_integer(arrow_type) or types.is_floating(arrow_type) or types.is_boolean(arrow_type):
        return str(np.dtype(arrow_type.to_pandas_dtype()))
    if types.is_duration(arrow_type) or (types.is_timestamp(arrow_type) and arrow_type.tz is None):
        return f"{'m' if types.is_duration(arrow_type) else 'M'}8[{arrow_type.unit}]"
    return ""


def _chunk_to_numpy(chunk: pa.Array, what: str) -> Any:
    if chunk.null_count and (types.is_integer(chunk.type) or types.is_boolean(chunk.type)):
        raise ArtifactRefused(
            f"{what} of {chunk.type} has nulls and no metadata about them, so pandas did not write it. "
            "Read it as a pyarrow.Table."
        )
    return chunk.to_numpy(zero_copy_only=False)


def _chunks_to_pandas(chunks: list[pa.Array]) -> Any:
    series = pa.chunked_array(chunks).to_pandas(types_mapper=_PANDAS_DTYPES.get)
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array


def _complex_to_struct(values: Any) -> pa.Array:
    parts = [pa.array(np.ascontiguousarray(part)) for part in (values.real, values.imag)]
    return pa.StructArray.from_arrays(parts, ["real", "imag"])


def complex_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return the buffer of complex numbers, stored as real and imaginary parts."""

    def convert(chunk: pa.Array) -> Any:
        values = np.empty(len(chunk), metadata["dtype"])
        values.real, values.imag = (chunk.field(name).to_numpy() for name in ("real", "imag"))
        return values

    return ColumnBuffer(arrow_type, rows, convert)


def string_to_arrow(values: Any) -> ArrowColumn:
    """Store strings of either storage; only those that are not of the default dtype need metadata."""
    metadata = string_metadata(values.dtype)
    usual = metadata == string_metadata(DEFAULT_STRING)
    return ArrowColumn(values, partial(pa.array, type=pa.large_string()), {} if usual else {"as": "string", **metadata})


def string_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return the buffer of strings of the recorded storage and missing value."""
    dtype: Any = string_dtype(metadata)
    if dtype.storage == "pyarrow":
        return ChunkBuffer(arrow_type, lambda chunks: dtype.__from_arrow__(pa.chunked_array(chunks)))
    return ColumnBuffer(arrow_type, rows, dtype.__from_arrow__)


def masked_to_arrow(values: Any) -> ArrowColumn:
    """Store nullable numbers and booleans; a NaN that is not missing stays NaN."""
    return ArrowColumn(values, pa.array, {"as": "masked", "dtype": values.dtype.name})


def masked_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return the buffer of a nullable array, made of numbers and a mask: pandas' own conversion takes NaN for missing."""
    dtype = cast("Any", pd.api.types.pandas_dtype(metadata["dtype"]))

    def convert(chunk: pa.Array) -> Any:
        numbers = chunk.fill_null(dtype.type(0).item()).to_numpy(zero_copy_only=False)
        return dtype.construct_array_type()(numbers, chunk.is_null().to_numpy(zero_copy_only=False))

    return ColumnBuffer(arrow_type, rows, convert)


def arrow_backed_to_arrow(values: Any) -> ArrowColumn:
    """Store an Arrow-backed column as it is; raise `SaveRefused` for a type that parquet would change."""
    stored = ArrowColumn(values, pa.array, {"as": "arrow"})
    if not roundtrips_in_parquet(pa.schema([pa.field("values", stored.type)])):
        raise SaveRefused(f"Parquet does not keep a column of {stored.type}. Convert it, or save a pyarrow.Table.")
    return stored


def arrow_backed_buffer(arrow_type: pa.DataType, _: PandasMetadata, __: int) -> Buffer:
    """Return the buffer of an Arrow-backed array."""

    def finalize(chunks: list[pa.Array]) -> Any:
        dtype: Any = pd.ArrowDtype(chunks[0].type)
        return dtype.__from_arrow__(pa.chunked_array(chunks))

    return ChunkBuffer(arrow_type, finalize)


def datetimetz_to_arrow(values: Any) -> ArrowColumn:
    """Store instants as UTC under the name of their zone, for other readers; the exact zone is metadata."""
    return ArrowColumn(values, _utc_timestamps, {"as": "datetimetz", "tz": timezone_metadata(values.tz)})


def datetimetz_buffer(arrow_type: Any, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return the buffer of instants: integers, which pandas takes for UTC without a copy."""
    dtype = pd.DatetimeTZDtype(arrow_type.unit, timezone_from_metadata(metadata["tz"]))
    return ColumnBuffer(arrow_type, rows, _to_int64, lambda array: pd.array(array, dtype=dtype, copy=False))


def period_to_arrow(values: Any) -> ArrowColumn:
    """Store periods as their ordinals."""
    dtype = values.dtype
    freq = dtype.name.removeprefix("period[").removesuffix("]")
    if pd.PeriodDtype(freq) != dtype:
        raise SaveRefused(f"The period {dtype!r} is more than its name {freq!r} says. Convert it to timestamps.")
    return ArrowColumn(values, _period_ordinals, {"as": "period", "freq": freq})


def period_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return the buffer of periods of the recorded frequency."""
    dtype = pd.PeriodDtype(metadata["freq"])
    return ColumnBuffer(arrow_type, rows, _to_int64, lambda array: pd.arrays.PeriodArray(array, dtype=dtype))


def _utc_timestamps(values: Any) -> pa.Array:
    naive = pa.array(values.tz_convert(None).to_numpy(), from_pandas=True)
    return naive.cast(pa.timestamp(values.unit, _arrow_timezone_name(values.tz)))


def _arrow_timezone_name(tz: tzinfo) -> str:
    """Return Arrow's name of a zone; `UTC` for an offset that has none."""
    name = getattr(tz, "key", None) or getattr(tz, "zone", None)
    if name:
        return str(name)
    minutes, rest = divmod(tz.utcoffset(None) or timedelta(), timedelta(minutes=1))
    if rest or not minutes:
        return "UTC"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _period_ordinals(values: Any) -> pa.Array:
    return pa.array(values.astype("int64"), mask=np.asarray(values.isna()))


def _to_int64(chunk: pa.Array) -> Any:
    return chunk.cast(pa.int64()).fill_null(_NAT).to_numpy()
