"""One column of pandas as one column of Arrow, and back to the same dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.pandas import extensions, plain
from airflow_zen.materializers.pandas.categories import restore_category, store_category
from airflow_zen.materializers.pandas.objects import restore_objects, store_objects
from airflow_zen.materializers.pandas.stored import Note, Stored
from airflow_zen.materializers.registry import MaterializerRegistry

_MASKED = (
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
    *(pd.Float32Dtype, pd.Float64Dtype, pd.BooleanDtype),
)


def store(registry: MaterializerRegistry, values: Any) -> Stored:
    """Turn the values of a series or index, a NumPy or extension array, into Arrow; raises `SaveRefused`."""
    try:
        return _store(registry, values)
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise SaveRefused(f"A column of dtype {values.dtype} does not fit into Arrow: {error}") from error


def restore(array: pa.Array, note: Note) -> Any:
    """Turn a stored column back into the values of a series or index."""
    return _RESTORES[note["as"]](array, note) if note else plain.restore_plain(array)


def _store(registry: MaterializerRegistry, values: Any) -> Stored:
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _store_objects(registry, values) if dtype.kind == "O" else plain.store_numpy(values)
    if type(dtype) in _STORES:
        return _STORES[type(dtype)](values)
    if type(dtype) is pd.CategoricalDtype:
        return store_category(registry, values, store)
    if type(dtype) is pd.IntervalDtype:
        return _store_interval(registry, values)
    if type(dtype) is pd.SparseDtype:
        return _store_sparse(registry, values)
    raise SaveRefused(f"The dtype {dtype!r} of {type(dtype).__module__} is not stored. Convert the column to another.")


def _store_objects(registry: MaterializerRegistry, values: Any) -> Stored:
    array, note = store_objects(registry, np.asarray(values))
    return Stored(array, {"as": "object", **note})


def _store_interval(registry: MaterializerRegistry, values: Any) -> Stored:
    left, right = (store(registry, values_of(side)) for side in (values.left, values.right))
    array = pa.StructArray.from_arrays([left.array, right.array], ["left", "right"])
    return Stored(array, {"as": "interval", "closed": values.closed, "left": left.note, "right": right.note})


def _restore_interval(array: pa.Array, note: Note) -> Any:
    left, right = (pd.Index(restore(array.field(side), note[side])) for side in ("left", "right"))
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=note["closed"])


def _store_sparse(registry: MaterializerRegistry, values: Any) -> Stored:
    dense = store(registry, np.asarray(values))
    note = {"as": "sparse", "dense": dense.note, "fill": values.dtype.fill_value, "kind": values.kind}
    return Stored(dense.array, note)


def _restore_sparse(array: pa.Array, note: Note) -> Any:
    dense = restore(array, note["dense"])
    return pd.arrays.SparseArray(dense, fill_value=note["fill"], kind=note["kind"], dtype=dense.dtype)


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
_RESTORES: dict[str, Callable[[pa.Array, Note], Any]] = {
    "object": restore_objects,
    "complex": plain.restore_complex,
    "string": extensions.restore_string,
    "datetimetz": extensions.restore_zoned,
    "period": extensions.restore_period,
    "arrow": extensions.restore_arrow,
    "masked": extensions.restore_masked,
    "category": lambda array, note: restore_category(array, note, restore),
    "interval": _restore_interval,
    "sparse": _restore_sparse,
}
