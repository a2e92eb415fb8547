"""One column of pandas as one column of Arrow, and back to the same dtype."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.arrow.exact import parquet_keeps
from airflow_zen.materializers.pandas.objects import restore_objects, store_objects
from airflow_zen.materializers.pandas.strings import DEFAULT_STRING, string_dtype, string_note
from airflow_zen.materializers.pandas.zones import zone_note, zone_of
from airflow_zen.materializers.registry import MaterializerRegistry

Note = Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """An Arrow array, and the note that its type alone does not say; an empty one in the usual case."""

    array: pa.Array
    note: Note = field(default_factory=dict)


def store(registry: MaterializerRegistry, values: Any) -> Stored:
    """Turn the values of a series or index, a NumPy or extension array, into Arrow; raises `SaveRefused`."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _store_numpy(registry, values)
    if type(dtype) in _STORES:
        return _STORES[type(dtype)](registry, values)
    if isinstance(dtype, pd.core.arrays.masked.BaseMaskedDtype):
        return _store_masked(values)
    raise SaveRefused(f"The dtype {dtype!r} of {type(dtype).__module__} is not stored. Convert the column to another.")


def restore(array: pa.Array, note: Note) -> Any:
    """Turn a stored column back into the values of a series or index."""
    return _RESTORES[note["as"]](array, note) if note else _restore_plain(array)


def _store_numpy(registry: MaterializerRegistry, values: Any) -> Stored:
    if values.dtype == object:
        array, note = store_objects(registry, values)
        return Stored(array, {"as": "object", **note})
    if values.dtype.char in "FD":
        return Stored(_complex(values), {"as": "complex", "dtype": values.dtype.name})
    if values.dtype.char in "?bhilqBHILQefdMm" and values.dtype.isnative:
        return Stored(pa.array(values, from_pandas=True))
    raise SaveRefused(f"A column of dtype {values.dtype!r} is not stored. Convert it to a dtype that Arrow has.")


def _restore_plain(array: pa.Array) -> Any:
    return array.to_pandas(types_mapper={pa.large_string(): DEFAULT_STRING}.get).to_numpy()


def _complex(values: Any) -> pa.Array:
    return pa.StructArray.from_arrays([pa.array(values.real.copy()), pa.array(values.imag.copy())], ["real", "imag"])


def _restore_complex(array: pa.Array, note: Note) -> Any:
    values = np.empty(len(array), dtype=note["dtype"])
    values.real, values.imag = (array.field(name).to_numpy() for name in ("real", "imag"))
    return values


def _store_string(_: MaterializerRegistry, values: Any) -> Stored:
    array = pa.array(values, pa.large_string())
    return Stored(array) if values.dtype == DEFAULT_STRING else Stored(array, {"as": "string", **string_note(values.dtype)})
