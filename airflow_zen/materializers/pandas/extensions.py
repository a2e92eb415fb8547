"""Columns of pandas' own dtypes."""

from __future__ import annotations

from datetime import timedelta, tzinfo
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.exact import parquet_keeps
from airflow_zen.materializers.pandas.stored import Note, Stored, one_array
from airflow_zen.materializers.pandas.strings import DEFAULT_STRING, string_dtype, string_note
from airflow_zen.materializers.pandas.zones import zone_note, zone_of

_MISSING_ORDINAL = np.iinfo("int64").min


def store_string(values: Any) -> Stored:
    """Store strings of either storage; only those that are not the default `str` need a note."""
    array = one_array(pa.array(values, pa.large_string()))
    note = string_note(values.dtype)
    usual = isinstance(DEFAULT_STRING, pd.StringDtype) and note == string_note(DEFAULT_STRING)
    return Stored(array) if usual else Stored(array, {"as": "string", **note})


def restore_string(array: pa.Array, note: Note) -> Any:
    """Give strings of the noted storage and missing value."""
    dtype = string_dtype(dict(note))
    return array.to_numpy(zero_copy_only=False) if isinstance(dtype, np.dtype) else dtype.__from_arrow__(array)


def store_masked(values: Any) -> Stored:
    """Store nullable numbers and booleans; a NaN that is not missing stays NaN."""
    return Stored(one_array(pa.array(values)), {"as": "masked", "dtype": values.dtype.name})


def restore_masked(array: pa.Array, note: Note) -> Any:
    """Give a nullable array, built from its two halves: a conversion would take NaN for missing."""
    if note["dtype"] in ("Float32", "Float64"):
        missing = array.is_null().to_numpy(zero_copy_only=False)
        return pd.arrays.FloatingArray(array.fill_null(0).to_numpy(zero_copy_only=False).copy(), missing)
    return pd.api.types.pandas_dtype(note["dtype"]).__from_arrow__(array)  # type: ignore[union-attr]


def store_arrow(values: Any) -> Stored:
    """Store an Arrow-backed column as it is; raises `SaveRefused` for a type that parquet would change."""
    array = one_array(pa.array(values))
    if not parquet_keeps(pa.schema([pa.field("values", array.type)])):
        raise SaveRefused(f"Parquet does not keep a column of {array.type}. Convert it, or save a pyarrow.Table.")
    return Stored(array, {"as": "arrow"})


def restore_arrow(array: pa.Array, _: Note) -> Any:
    """Give an Arrow-backed array."""
    return pd.ArrowDtype(array.type).__from_arrow__(array)  # type: ignore[attr-defined]


def store_zoned(values: Any) -> Stored:
    """Store instants as UTC, with the zone's name for other readers and the zone itself in the note."""
    instants = pa.array(values.tz_convert(None).to_numpy(), from_pandas=True)
    zoned = instants.cast(pa.timestamp(values.unit, _arrow_zone(values.tz)))
    return Stored(zoned, {"as": "datetimetz", "tz": zone_note(values.tz)})


def restore_zoned(array: pa.Array, note: Note) -> Any:
    """Give instants in their zone."""
    instants = pd.Series(array.cast(pa.timestamp(array.type.unit)).to_numpy(zero_copy_only=False))
    return instants.dt.tz_localize("UTC").dt.tz_convert(zone_of(note["tz"])).array


def store_period(values: Any) -> Stored:
    """Store periods as their ordinals."""
    dtype = values.dtype
    freq = dtype.name.removeprefix("period[").removesuffix("]")
    if pd.PeriodDtype(freq) != dtype:
        raise SaveRefused(f"The period {dtype!r} is more than its name {freq!r} says. Convert it to timestamps.")
    return Stored(pa.array(values.astype("int64"), mask=np.asarray(values.isna())), {"as": "period", "freq": freq})


def restore_period(array: pa.Array, note: Note) -> Any:
    """Give periods of the noted frequency."""
    ordinals = array.fill_null(int(_MISSING_ORDINAL)).to_numpy(zero_copy_only=False).copy()
    return pd.arrays.PeriodArray(ordinals, dtype=pd.PeriodDtype(note["freq"]))


def _arrow_zone(tz: tzinfo) -> str:
    """Name a zone for Arrow; an offset that has no such name is shown as UTC."""
    name = getattr(tz, "key", None) or getattr(tz, "zone", None)
    if name:
        return str(name)
    minutes, rest = divmod(tz.utcoffset(None) or timedelta(), timedelta(minutes=1))
    if rest or not minutes:
        return "UTC"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
