"""Columns of NumPy dtypes, whose Arrow type says it all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.pandas.rooms import ArrayRoom, PiecesRoom, Room
from airflow_zen.materializers.pandas.stored import Note, Stored
from airflow_zen.materializers.pandas.strings import DEFAULT_STRING

_TYPES = {pa.large_string(): DEFAULT_STRING}

_ARROW_HAS = "?bhilqBHILQefdMm"


def store_numpy(values: Any) -> Stored:
    """Wrap numbers, times and durations without copying; NaN and NaT become null, as every engine expects."""
    dtype = values.dtype
    if dtype.char in "FD":
        return Stored(values, _halves, {"as": "complex", "dtype": dtype.name})
    if dtype.char in _ARROW_HAS and dtype.isnative:
        return Stored(values, lambda part: pa.array(part, from_pandas=True))
    raise SaveRefused(f"A column of dtype {dtype!r} is not stored. Convert it to a dtype that Arrow has.")


def plain_room(kind: pa.DataType, rows: int) -> Room:
    """Make room for a column that has no note."""
    dtype = numpy_dtype(kind)
    return ArrayRoom(dtype, rows, lambda piece: numbers(piece, "A column")) if dtype else PiecesRoom(kind, _converted)


def complex_room(_: pa.DataType, note: Note, rows: int) -> Room:
    """Make room where the real and imaginary parts are joined."""
    return ArrayRoom(note["dtype"], rows, lambda piece: _joined(piece, note["dtype"]))


def numpy_dtype(kind: pa.DataType) -> str:
    """Name the dtype of a column that `store_numpy` wrote without a note; `""` for any other."""
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return str(np.dtype(kind.to_pandas_dtype()))
    if types.is_duration(kind) or (types.is_timestamp(kind) and kind.tz is None):
        return f"{'m' if types.is_duration(kind) else 'M'}8[{kind.unit}]"
    return ""


def numbers(piece: pa.Array, what: str) -> Any:
    """Give a piece of a column that `numpy_dtype` names; `what` it is opens the error for nulls that it cannot have."""
    if piece.null_count and (types.is_integer(piece.type) or types.is_boolean(piece.type)):
        raise ArtifactRefused(
            f"{what} of {piece.type} has nulls and no note that says what they are, so pandas did not write it. "
            "Read it as a pyarrow.Table."
        )
    return piece.to_numpy(zero_copy_only=False)


def _halves(values: Any) -> pa.Array:
    parts = [pa.array(np.ascontiguousarray(part)) for part in (values.real, values.imag)]
    return pa.StructArray.from_arrays(parts, ["real", "imag"])


def _joined(piece: pa.Array, dtype: str) -> Any:
    values = np.empty(len(piece), dtype)
    values.real, values.imag = (piece.field(name).to_numpy() for name in ("real", "imag"))
    return values


def _converted(array: pa.ChunkedArray) -> Any:
    series = array.to_pandas(types_mapper=_TYPES.get)
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array
