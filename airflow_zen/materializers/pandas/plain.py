"""Columns of NumPy dtypes, whose Arrow type says it all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.pandas.stored import Note, Stored
from airflow_zen.materializers.pandas.strings import DEFAULT_STRING

TYPES = {pa.large_string(): DEFAULT_STRING} if isinstance(DEFAULT_STRING, pd.StringDtype) else {}
"""How plain Arrow columns become pandas ones, beyond what `to_pandas` does anyway."""

_ARROW_HAS = "?bhilqBHILQefdMm"


def store_numpy(values: Any) -> Stored:
    """Wrap numbers, times and durations without copying; NaN and NaT become null, as every engine expects."""
    dtype = values.dtype
    if dtype.char in "FD":
        parts = [pa.array(np.ascontiguousarray(part)) for part in (values.real, values.imag)]
        return Stored(pa.StructArray.from_arrays(parts, ["real", "imag"]), {"as": "complex", "dtype": dtype.name})
    if dtype.char in _ARROW_HAS and dtype.isnative:
        return Stored(pa.array(values, from_pandas=True))
    raise SaveRefused(f"A column of dtype {dtype!r} is not stored. Convert it to a dtype that Arrow has.")


def restore_plain(array: pa.Array) -> Any:
    """Give the values of a column that has no note."""
    series = array.to_pandas(types_mapper=TYPES.get)
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array


def restore_complex(array: pa.Array, note: Note) -> Any:
    """Join the real and imaginary parts."""
    values = np.empty(len(array), dtype=note["dtype"])
    values.real, values.imag = (array.field(name).to_numpy() for name in ("real", "imag"))
    return values
