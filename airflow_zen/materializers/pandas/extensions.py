"""Columns of pandas' own dtypes."""

from __future__ import annotations

from datetime import timedelta, tzinfo
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.exact import parquet_keeps
from airflow_zen.materializers.pandas.rooms import ArrayRoom, ExtensionRoom, PiecesRoom, Room
from airflow_zen.materializers.pandas.stored import Note, Stored, one_array
from airflow_zen.materializers.pandas.strings import DEFAULT_STRING, string_dtype, string_note
from airflow_zen.materializers.pandas.zones import zone_note, zone_of

_NOT_A_TIME = int(np.iinfo("int64").min)


def store_string(values: Any) -> Stored:
    """Store strings of either storage; only those that are not the default `str` need a note."""
    note = string_note(values.dtype)
    noted = {} if note == string_note(DEFAULT_STRING) else {"as": "string", **note}
    return Stored(values, lambda part: one_array(pa.array(part, pa.large_string())), noted)


def string_room(kind: pa.DataType, note: Note, rows: int) -> Room:
    """Make room for strings of the noted storage and missing value."""
    dtype = string_dtype(dict(note))
    return PiecesRoom(kind, dtype.__from_arrow__) if dtype.storage == "pyarrow" else ExtensionRoom(dtype, rows)


def store_masked(values: Any) -> Stored:
    """Store nullable numbers and booleans; a NaN that is not missing stays NaN."""
    return Stored(values, lambda part: one_array(pa.array(part)), {"as": "masked", "dtype": values.dtype.name})


class MaskedRoom:
    """Fill the two halves of a nullable array: a conversion would take NaN for missing."""

    def __init__(self, _: pa.DataType, note: Note, rows: int) -> None:
        self._dtype = cast("Any", pd.api.types.pandas_dtype(note["dtype"]))
        self._held = np.empty(rows, self._dtype.numpy_dtype)
        self._missing = np.empty(rows, bool)

    def fill(self, piece: pa.Array, at: int) -> None:
        """Convert a piece."""
        rows = slice(at, at + len(piece))
        self._missing[rows] = piece.is_null().to_numpy(zero_copy_only=False)
        self._held[rows] = piece.fill_null(self._dtype.type(0).item()).to_numpy(zero_copy_only=False)

    def values(self) -> Any:
        """Join the halves."""
        return self._dtype.construct_array_type()(self._held, self._missing)


def store_arrow(values: Any) -> Stored:
    """Store an Arrow-backed column as it is; raises `SaveRefused` for a type that parquet would change."""
    stored = Stored(values, lambda part: one_array(pa.array(part)), {"as": "arrow"})
    if not parquet_keeps(pa.schema([pa.field("values", stored.type)])):
        raise SaveRefused(f"Parquet does not keep a column of {stored.type}. Convert it, or save a pyarrow.Table.")
    return stored


def arrow_room(kind: pa.DataType, _: Note, rows: int) -> Room:
    """Make room for an Arrow-backed array."""
    return PiecesRoom(kind, lambda array: pd.ArrowDtype(array.type).__from_arrow__(array))  # type: ignore[attr-defined]


def store_zoned(values: Any) -> Stored:
    """Store instants as UTC, with the zone's name for other readers and the zone itself in the note."""
    return Stored(values, _instants, {"as": "datetimetz", "tz": zone_note(values.tz)})


def zoned_room(kind: Any, note: Note, rows: int) -> Room:
    """Make room for instants in their zone: integers, which pandas takes for UTC without a copy."""
    dtype = pd.DatetimeTZDtype(kind.unit, zone_of(note["tz"]))
    return ArrayRoom("int64", rows, _integers, lambda held: pd.array(held, dtype=dtype, copy=False))


def store_period(values: Any) -> Stored:
    """Store periods as their ordinals."""
    dtype = values.dtype
    freq = dtype.name.removeprefix("period[").removesuffix("]")
    if pd.PeriodDtype(freq) != dtype:
        raise SaveRefused(f"The period {dtype!r} is more than its name {freq!r} says. Convert it to timestamps.")
    return Stored(values, _ordinals, {"as": "period", "freq": freq})


def period_room(_: pa.DataType, note: Note, rows: int) -> Room:
    """Make room for periods of the noted frequency."""
    dtype = pd.PeriodDtype(note["freq"])
    return ArrayRoom("int64", rows, _integers, lambda held: pd.arrays.PeriodArray(held, dtype=dtype))


def _instants(values: Any) -> pa.Array:
    naive = pa.array(values.tz_convert(None).to_numpy(), from_pandas=True)
    return naive.cast(pa.timestamp(values.unit, _arrow_zone(values.tz)))


def _ordinals(values: Any) -> pa.Array:
    return pa.array(values.astype("int64"), mask=np.asarray(values.isna()))


def _integers(piece: pa.Array) -> Any:
    return piece.cast(pa.int64()).fill_null(_NOT_A_TIME).to_numpy()


def _arrow_zone(tz: tzinfo) -> str:
    """Name a zone for Arrow; an offset that has no such name is shown as UTC."""
    name = getattr(tz, "key", None) or getattr(tz, "zone", None)
    if name:
        return str(name)
    minutes, rest = divmod(tz.utcoffset(None) or timedelta(), timedelta(minutes=1))
    if rest or not minutes:
        return "UTC"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
