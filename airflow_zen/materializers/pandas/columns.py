"""One column of pandas as one column of Arrow, and back to the same dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.pandas import dtypes
from airflow_zen.materializers.pandas.buffers import ArrowColumn, ColumnBuffer, PandasMetadata
from airflow_zen.materializers.pandas.dtypes import category_buffer, category_to_arrow
from airflow_zen.materializers.pandas.objects import object_buffer, objects_to_arrow

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

_MASKED_DTYPES = (
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
    *(pd.Float32Dtype, pd.Float64Dtype, pd.BooleanDtype),
)


def column_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    """Say how the values of a series or index, a NumPy or extension array, become Arrow; raises `SaveRefused`."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return objects_to_arrow(registry, np.asarray(values)) if dtype.kind == "O" else dtypes.numpy_to_arrow(values)
    if type(dtype) in _CONVERTERS:
        return _CONVERTERS[type(dtype)](values)
    if type(dtype) is pd.CategoricalDtype:
        return category_to_arrow(registry, values, column_to_arrow)
    if type(dtype) is pd.IntervalDtype:
        return _interval_to_arrow(registry, values)
    if type(dtype) is pd.SparseDtype:
        return _sparse_to_arrow(registry, values)
    raise SaveRefused(
        f"The dtype {str(dtype)!r} of {type(dtype).__module__} is not stored. Convert the column to another."
    )


def buffer_for(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for a stored column of an Arrow type."""
    return _BUFFERS[metadata["as"]](arrow_type, metadata, rows) if metadata else dtypes.default_buffer(arrow_type, rows)


def array_to_pandas(array: pa.Array, metadata: PandasMetadata) -> Any:
    """Turn a stored column back into the values of a series or index."""
    buffer = buffer_for(array.type, metadata, len(array))
    buffer.fill(array, 0)
    return buffer.values()


def _interval_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    left, right = (column_to_arrow(registry, values_of(side)) for side in (values.left, values.right))

    def joined(part: Any) -> pa.Array:
        sides = [left.to_arrow(values_of(part.left)), right.to_arrow(values_of(part.right))]
        return pa.StructArray.from_arrays(sides, ["left", "right"])

    return ArrowColumn(
        values, joined, {"as": "interval", "closed": values.closed, "left": left.metadata, "right": right.metadata}
    )


class _IntervalBuffer:
    """Copy intervals to their place among as many of the first one: pandas checks what it makes of two whole sides."""

    def __init__(self, arrow_type: Any, metadata: PandasMetadata, rows: int) -> None:
        self._metadata = metadata
        self._rows = rows
        self._array = self._to_intervals(pa.array([], arrow_type))

    def fill(self, chunk: pa.Array, at: int) -> None:
        part = self._to_intervals(chunk)
        if len(self._array) < self._rows:
            self._array = part[:1].repeat(self._rows)
        self._array[at : at + len(part)] = part

    def values(self) -> Any:
        return self._array

    def _to_intervals(self, chunk: pa.Array) -> Any:
        left, right = (pd.Index(array_to_pandas(chunk.field(side), self._metadata[side])) for side in ("left", "right"))
        return pd.arrays.IntervalArray.from_arrays(left, right, closed=self._metadata["closed"])


def _sparse_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    subtype = values.dtype.subtype
    # What is noted of objects depends on all of them.
    dense = column_to_arrow(registry, np.asarray(values if subtype.kind == "O" else values[:0], dtype=subtype))
    metadata = {"as": "sparse", "dense": dense.metadata, "fill": values.dtype.fill_value, "kind": values.kind}
    return ArrowColumn(values, lambda part: dense.to_arrow(np.asarray(part, dtype=subtype)), metadata)


class _SparseBuffer:
    """Make each piece sparse, and join what is left of them; blocks are found at the end, where those of two pieces meet."""

    def __init__(self, arrow_type: pa.DataType, metadata: PandasMetadata, _: int) -> None:
        self._metadata = metadata
        self._chunks = [self._to_sparse(pa.array([], arrow_type))]

    def fill(self, chunk: pa.Array, at: int) -> None:
        self._chunks.append(self._to_sparse(chunk))

    def values(self) -> Any:
        joined: Any = pd.concat([pd.Series(chunk, copy=False) for chunk in self._chunks], ignore_index=True).array
        if self._metadata["kind"] == "integer":
            return joined
        # The public way is deprecated in the newest pandas, and the one in its place is in no older one.
        return type(joined)._simple_new(joined.sp_values, joined.sp_index.to_block_index(), joined.dtype)  # noqa: SLF001

    def _to_sparse(self, chunk: pa.Array) -> Any:
        dense = array_to_pandas(chunk, self._metadata["dense"])
        return pd.arrays.SparseArray(dense, fill_value=self._metadata["fill"], dtype=dense.dtype)


def values_of(labels: Any) -> Any:
    """Give the values of a series or index: a NumPy array where it has one of its own, else its extension array."""
    return labels.to_numpy() if isinstance(labels.dtype, np.dtype) else labels.array


_CONVERTERS: dict[type, Callable[[Any], ArrowColumn]] = {
    pd.StringDtype: dtypes.string_to_arrow,
    pd.DatetimeTZDtype: dtypes.datetimetz_to_arrow,
    pd.PeriodDtype: dtypes.period_to_arrow,
    pd.ArrowDtype: dtypes.arrow_backed_to_arrow,
    **dict.fromkeys(_MASKED_DTYPES, dtypes.masked_to_arrow),
}
_BUFFERS: dict[str, Callable[[pa.DataType, PandasMetadata, int], ColumnBuffer]] = {
    "object": object_buffer,
    "complex": dtypes.complex_buffer,
    "string": dtypes.string_buffer,
    "datetimetz": dtypes.datetimetz_buffer,
    "period": dtypes.period_buffer,
    "arrow": dtypes.arrow_backed_buffer,
    "masked": dtypes.MaskedBuffer,
    "category": lambda _, metadata, rows: category_buffer(metadata, rows, array_to_pandas),
    "interval": _IntervalBuffer,
    "sparse": _SparseBuffer,
}
