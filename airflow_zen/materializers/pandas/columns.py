"""One column of pandas as one column of Arrow, and back to the same dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.pandas import extensions, plain
from airflow_zen.materializers.pandas.categories import category_room, store_category
from airflow_zen.materializers.pandas.objects import object_room, store_objects
from airflow_zen.materializers.pandas.rooms import Room
from airflow_zen.materializers.pandas.stored import Note, Stored
from airflow_zen.materializers.registry import MaterializerRegistry

_MASKED = (
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
    *(pd.Float32Dtype, pd.Float64Dtype, pd.BooleanDtype),
)


def store(registry: MaterializerRegistry, values: Any) -> Stored:
    """Say how the values of a series or index, a NumPy or extension array, become Arrow; raises `SaveRefused`."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return store_objects(registry, np.asarray(values)) if dtype.kind == "O" else plain.store_numpy(values)
    if type(dtype) in _STORES:
        return _STORES[type(dtype)](values)
    if type(dtype) is pd.CategoricalDtype:
        return store_category(registry, values, store)
    if type(dtype) is pd.IntervalDtype:
        return _store_interval(registry, values)
    if type(dtype) is pd.SparseDtype:
        return _store_sparse(registry, values)
    raise SaveRefused(
        f"The dtype {str(dtype)!r} of {type(dtype).__module__} is not stored. Convert the column to another."
    )


def room_for(kind: pa.DataType, note: Note, rows: int) -> Room:
    """Make room for a stored column of an Arrow type."""
    return _ROOMS[note["as"]](kind, note, rows) if note else plain.plain_room(kind, rows)


def restore(array: pa.Array, note: Note) -> Any:
    """Turn a stored column back into the values of a series or index."""
    room = room_for(array.type, note, len(array))
    room.fill(array, 0)
    return room.values()


def _store_interval(registry: MaterializerRegistry, values: Any) -> Stored:
    left, right = (store(registry, values_of(side)) for side in (values.left, values.right))

    def joined(part: Any) -> pa.Array:
        sides = [left.to_arrow(values_of(part.left)), right.to_arrow(values_of(part.right))]
        return pa.StructArray.from_arrays(sides, ["left", "right"])

    return Stored(values, joined, {"as": "interval", "closed": values.closed, "left": left.note, "right": right.note})


class _IntervalRoom:
    """Copy intervals to their place among as many of the first one: pandas checks what it makes of two whole sides."""

    def __init__(self, kind: Any, note: Note, rows: int) -> None:
        self._note = note
        self._rows = rows
        self._held = self._intervals(pa.array([], kind))

    def fill(self, piece: pa.Array, at: int) -> None:
        part = self._intervals(piece)
        if len(self._held) < self._rows:
            self._held = part[:1].repeat(self._rows)
        self._held[at : at + len(part)] = part

    def values(self) -> Any:
        return self._held

    def _intervals(self, piece: pa.Array) -> Any:
        left, right = (pd.Index(restore(piece.field(side), self._note[side])) for side in ("left", "right"))
        return pd.arrays.IntervalArray.from_arrays(left, right, closed=self._note["closed"])


def _store_sparse(registry: MaterializerRegistry, values: Any) -> Stored:
    subtype = values.dtype.subtype
    # What is noted of objects depends on all of them.
    dense = store(registry, np.asarray(values if subtype.kind == "O" else values[:0], dtype=subtype))
    note = {"as": "sparse", "dense": dense.note, "fill": values.dtype.fill_value, "kind": values.kind}
    return Stored(values, lambda part: dense.to_arrow(np.asarray(part, dtype=subtype)), note)


class _SparseRoom:
    """Make each piece sparse, and join what is left of them; blocks are found at the end, where those of two pieces meet."""

    def __init__(self, kind: pa.DataType, note: Note, _: int) -> None:
        self._note = note
        self._pieces = [self._sparse(pa.array([], kind))]

    def fill(self, piece: pa.Array, at: int) -> None:
        self._pieces.append(self._sparse(piece))

    def values(self) -> Any:
        joined: Any = pd.concat([pd.Series(piece, copy=False) for piece in self._pieces], ignore_index=True).array
        if self._note["kind"] == "integer":
            return joined
        # The public way is deprecated in the newest pandas, and the one in its place is in no older one.
        return type(joined)._simple_new(joined.sp_values, joined.sp_index.to_block_index(), joined.dtype)  # noqa: SLF001

    def _sparse(self, piece: pa.Array) -> Any:
        dense = restore(piece, self._note["dense"])
        return pd.arrays.SparseArray(dense, fill_value=self._note["fill"], dtype=dense.dtype)


def values_of(labels: Any) -> Any:
    """Give the values of a series or index: a NumPy array where it has one of its own, else its extension array."""
    return labels.to_numpy() if isinstance(labels.dtype, np.dtype) else labels.array


_STORES: dict[type, Callable[[Any], Stored]] = {
    pd.StringDtype: extensions.store_string,
    pd.DatetimeTZDtype: extensions.store_zoned,
    pd.PeriodDtype: extensions.store_period,
    pd.ArrowDtype: extensions.store_arrow,
    **dict.fromkeys(_MASKED, extensions.store_masked),
}
_ROOMS: dict[str, Callable[[pa.DataType, Note, int], Room]] = {
    "object": object_room,
    "complex": plain.complex_room,
    "string": extensions.string_room,
    "datetimetz": extensions.zoned_room,
    "period": extensions.period_room,
    "arrow": extensions.arrow_room,
    "masked": extensions.MaskedRoom,
    "category": lambda _, note, rows: category_room(note, rows, restore),
    "interval": _IntervalRoom,
    "sparse": _SparseRoom,
}
