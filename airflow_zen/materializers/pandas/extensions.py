"""Columns of pandas' own dtypes."""

from __future__ import annotations

from datetime import timedelta, tzinfo
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.exact import roundtrips_in_parquet
from airflow_zen.materializers.pandas.rooms import ArrayBuffer, ChunkBuffer, ColumnBuffer, ExtensionBuffer
from airflow_zen.materializers.pandas.stored import ArrowColumn, PandasMetadata, to_single_array
from airflow_zen.materializers.pandas.strings import DEFAULT_STRING, string_dtype, string_metadata
from airflow_zen.materializers.pandas.zones import timezone_from_metadata, timezone_metadata

_NAT = int(np.iinfo("int64").min)


def string_to_arrow(values: Any) -> ArrowColumn:
    """Store strings of either storage; only those that are not the default `str` need a note."""
    metadata = string_metadata(values.dtype)
    column_metadata = {} if metadata == string_metadata(DEFAULT_STRING) else {"as": "string", **metadata}
    return ArrowColumn(values, lambda part: to_single_array(pa.array(part, pa.large_string())), column_metadata)


def string_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for strings of the noted storage and missing value."""
    dtype = string_dtype(dict(metadata))
    return ChunkBuffer(arrow_type, dtype.__from_arrow__) if dtype.storage == "pyarrow" else ExtensionBuffer(dtype, rows)


def masked_to_arrow(values: Any) -> ArrowColumn:
    """Store nullable numbers and booleans; a NaN that is not missing stays NaN."""
    return ArrowColumn(
        values, lambda part: to_single_array(pa.array(part)), {"as": "masked", "dtype": values.dtype.name}
    )


class MaskedBuffer:
    """Fill the two halves of a nullable array: a conversion would take NaN for missing."""

    def __init__(self, _: pa.DataType, metadata: PandasMetadata, rows: int) -> None:
        self._dtype = cast("Any", pd.api.types.pandas_dtype(metadata["dtype"]))
        self._array = np.empty(rows, self._dtype.numpy_dtype)
        self._missing = np.empty(rows, bool)

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert a piece."""
        rows = slice(at, at + len(chunk))
        self._missing[rows] = chunk.is_null().to_numpy(zero_copy_only=False)
        self._array[rows] = chunk.fill_null(self._dtype.type(0).item()).to_numpy(zero_copy_only=False)

    def values(self) -> Any:
        """Join the halves."""
        return self._dtype.construct_array_type()(self._array, self._missing)


def arrow_backed_to_arrow(values: Any) -> ArrowColumn:
    """Store an Arrow-backed column as it is; raises `SaveRefused` for a type that parquet would change."""
    stored = ArrowColumn(values, lambda part: to_single_array(pa.array(part)), {"as": "arrow"})
    if not roundtrips_in_parquet(pa.schema([pa.field("values", stored.type)])):
        raise SaveRefused(f"Parquet does not keep a column of {stored.type}. Convert it, or save a pyarrow.Table.")
    return stored


def arrow_backed_buffer(arrow_type: pa.DataType, _: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for an Arrow-backed array."""
    return ChunkBuffer(arrow_type, lambda array: pd.ArrowDtype(array.type).__from_arrow__(array))  # type: ignore[attr-defined]


def datetimetz_to_arrow(values: Any) -> ArrowColumn:
    """Store instants as UTC, with the zone's name for other readers and the zone itself in the note."""
    return ArrowColumn(values, _utc_timestamps, {"as": "datetimetz", "tz": timezone_metadata(values.tz)})


def datetimetz_buffer(arrow_type: Any, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for instants in their zone: integers, which pandas takes for UTC without a copy."""
    dtype = pd.DatetimeTZDtype(arrow_type.unit, timezone_from_metadata(metadata["tz"]))
    return ArrayBuffer("int64", rows, _to_int64, lambda array: pd.array(array, dtype=dtype, copy=False))


def period_to_arrow(values: Any) -> ArrowColumn:
    """Store periods as their ordinals."""
    dtype = values.dtype
    freq = dtype.name.removeprefix("period[").removesuffix("]")
    if pd.PeriodDtype(freq) != dtype:
        raise SaveRefused(f"The period {dtype!r} is more than its name {freq!r} says. Convert it to timestamps.")
    return ArrowColumn(values, _period_ordinals, {"as": "period", "freq": freq})


def period_buffer(_: pa.DataType, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for periods of the noted frequency."""
    dtype = pd.PeriodDtype(metadata["freq"])
    return ArrayBuffer("int64", rows, _to_int64, lambda array: pd.arrays.PeriodArray(array, dtype=dtype))


def _utc_timestamps(values: Any) -> pa.Array:
    naive = pa.array(values.tz_convert(None).to_numpy(), from_pandas=True)
    return naive.cast(pa.timestamp(values.unit, _arrow_timezone_name(values.tz)))


def _period_ordinals(values: Any) -> pa.Array:
    return pa.array(values.astype("int64"), mask=np.asarray(values.isna()))


def _to_int64(chunk: pa.Array) -> Any:
    return chunk.cast(pa.int64()).fill_null(_NAT).to_numpy()


def _arrow_timezone_name(tz: tzinfo) -> str:
    """Name a zone for Arrow; an offset that has no such name is shown as UTC."""
    name = getattr(tz, "key", None) or getattr(tz, "zone", None)
    if name:
        return str(name)
    minutes, rest = divmod(tz.utcoffset(None) or timedelta(), timedelta(minutes=1))
    if rest or not minutes:
        return "UTC"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
