"""One column of pandas as one column of Arrow, and back to the same dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.pandas import dtypes
from airflow_zen.materializers.pandas.buffers import ArrowColumn, Buffer, ChunkBuffer, ColumnBuffer, PandasMetadata
from airflow_zen.materializers.pandas.objects import object_buffer, objects_to_arrow

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

_MASKED_DTYPES = (
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
    *(pd.Float32Dtype, pd.Float64Dtype, pd.BooleanDtype),
)


def column_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    """Return how the values of a series or index, a NumPy or extension array, become Arrow; raise `SaveRefused`."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return objects_to_arrow(registry, np.asarray(values)) if dtype.kind == "O" else dtypes.numpy_to_arrow(values)
    if type(dtype) in _CONVERTERS:
        return _CONVERTERS[type(dtype)](values)
    if type(dtype) in _NESTED_CONVERTERS:
        return _NESTED_CONVERTERS[type(dtype)](registry, values)
    raise SaveRefused(
        f"The dtype {str(dtype)!r} of {type(dtype).__module__} is not stored. Convert the column to another."
    )


def buffer_for(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return an empty buffer for a stored column."""
    return _BUFFERS[metadata["as"]](arrow_type, metadata, rows) if metadata else dtypes.default_buffer(arrow_type, rows)


def array_to_pandas(array: pa.Array, metadata: PandasMetadata) -> Any:
    """Return a stored column as the values of a series or index."""
    buffer = buffer_for(array.type, metadata, len(array))
    buffer.fill(array, 0)
    return buffer.values()


def values_of(labels: Any) -> Any:
    """Return the values of a series or index: a NumPy array where its dtype is one of NumPy, else its extension array."""
    return labels.to_numpy() if isinstance(labels.dtype, np.dtype) else labels.array


def codes_to_arrow(registry: MaterializerRegistry, codes: Any, categories: pd.Index) -> ArrowColumn:
    """Store positions in an index; -1 becomes null.

    The file has the categories themselves where they are distinct and of a flat Arrow type.
    """
    shown = _dictionary_values(registry, categories)
    if shown is None:
        return ArrowColumn(codes, _nullable_codes, {"categories": categories, "shown": None})
    values, metadata = shown
    dictionary = lambda part: pa.DictionaryArray.from_arrays(_nullable_codes(part), values)  # noqa: E731
    return ArrowColumn(codes, dictionary, {"categories": categories, "shown": metadata})


def codes_buffer(
    arrow_type: pa.DataType, metadata: PandasMetadata, rows: int, finalize: Callable[[Any], Any] = lambda codes: codes
) -> Buffer:
    """Return the buffer of positions in an index; -1 for null."""
    return ColumnBuffer(arrow_type, rows, _CodeReader(metadata).read, finalize)


def _nullable_codes(codes: Any) -> pa.Array:
    return pa.array(codes, mask=codes < 0)


def _dictionary_values(registry: MaterializerRegistry, categories: pd.Index) -> tuple[pa.Array, PandasMetadata] | None:
    if not categories.is_unique or categories.hasnans:
        return None
    try:
        stored = column_to_arrow(registry, values_of(categories))
        values = stored.convert(stored.values)
    except SaveRefused:
        return None
    flat = not types.is_nested(values.type) and not types.is_dictionary(values.type)
    return (values, stored.metadata) if flat and not values.null_count else None


class _CodeReader:
    """Convert stored categories to their positions in the index of categories."""

    def __init__(self, metadata: PandasMetadata) -> None:
        self._categories: pd.Index = metadata["categories"]
        self._shown = metadata["shown"]
        labels = pd.CategoricalDtype(pd.RangeIndex(len(self._categories)))
        self._dtype = pd.Categorical.from_codes(np.empty(0, "int64"), dtype=labels).codes.dtype
        self._dictionary: pa.Array | None = None
        self._dictionary_codes: Any = None

    def read(self, chunk: pa.Array) -> Any:
        codes = np.full(len(chunk), -1, self._dtype)
        codes[chunk.is_valid().to_numpy(zero_copy_only=False)] = self._codes(chunk.drop_null())
        return codes

    def _codes(self, present: pa.Array) -> Any:
        if self._shown is None:
            return present.to_numpy()
        if not types.is_dictionary(present.type):
            return self._positions(present)
        # Most row groups have the dictionary of the one before.
        if self._dictionary is None or not present.dictionary.equals(self._dictionary):
            self._dictionary = present.dictionary
            self._dictionary_codes = self._positions(self._dictionary).astype(self._dtype)
        return self._dictionary_codes[present.indices.to_numpy()]

    def _positions(self, values: pa.Array) -> Any:
        labels = array_to_pandas(values, self._shown)
        found = self._categories.get_indexer(pd.Index(labels, dtype=labels.dtype, tupleize_cols=False))
        if (found < 0).any():
            raise ArtifactRefused(
                f"A column holds {labels[found < 0][0]!r}, which is none of its categories. Read it as a pyarrow.Table, and "
                "run the step that made it again."
            )
        return found


def _category_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    """Store a categorical; its categories, also unused ones, and their order are metadata."""
    coded = codes_to_arrow(registry, values.codes, values.categories)
    return replace(coded, metadata={"as": "category", "ordered": values.ordered, **coded.metadata})


def _category_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    dtype = pd.CategoricalDtype(metadata["categories"], metadata["ordered"])
    return codes_buffer(arrow_type, metadata, rows, lambda codes: pd.Categorical.from_codes(codes, dtype=dtype))


def _interval_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    left, right = (column_to_arrow(registry, values_of(side)) for side in (values.left, values.right))

    def to_struct(part: Any) -> pa.Array:
        sides = [left.convert(values_of(part.left)), right.convert(values_of(part.right))]
        return pa.StructArray.from_arrays(sides, ["left", "right"])

    metadata = {"as": "interval", "closed": values.closed, "left": left.metadata, "right": right.metadata}
    return ArrowColumn(values, to_struct, metadata)


def _interval_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    def convert(chunk: pa.Array) -> Any:
        left, right = (pd.Index(array_to_pandas(chunk.field(side), metadata[side])) for side in ("left", "right"))
        return pd.arrays.IntervalArray.from_arrays(left, right, closed=metadata["closed"])

    return ColumnBuffer(arrow_type, rows, convert)


def _sparse_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    subtype = values.dtype.subtype
    # The metadata of objects depends on all of them.
    dense = column_to_arrow(registry, np.asarray(values if subtype.kind == "O" else values[:0], dtype=subtype))
    metadata = {"as": "sparse", "dense": dense.metadata, "fill": values.dtype.fill_value, "kind": values.kind}
    return ArrowColumn(values, lambda part: dense.convert(np.asarray(part, dtype=subtype)), metadata)


def _sparse_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, _: int) -> Buffer:
    """Return the buffer of a sparse array: each chunk becomes sparse, so that only one of them is dense at a time."""

    def convert(chunk: pa.Array) -> Any:
        dense = array_to_pandas(chunk, metadata["dense"])
        return pd.arrays.SparseArray(dense, fill_value=metadata["fill"], dtype=dense.dtype)

    def finalize(chunks: list[Any]) -> Any:
        joined: Any = pd.concat([pd.Series(chunk, copy=False) for chunk in chunks], ignore_index=True).array
        if metadata["kind"] == "integer":
            return joined
        # Blocks may span chunks. The public way to find them is deprecated in the newest pandas, the new way is in no older.
        return type(joined)._simple_new(joined.sp_values, joined.sp_index.to_block_index(), joined.dtype)  # noqa: SLF001

    return ChunkBuffer(arrow_type, finalize, convert)


_CONVERTERS: dict[type, Callable[[Any], ArrowColumn]] = {
    pd.StringDtype: dtypes.string_to_arrow,
    pd.DatetimeTZDtype: dtypes.datetimetz_to_arrow,
    pd.PeriodDtype: dtypes.period_to_arrow,
    pd.ArrowDtype: dtypes.arrow_backed_to_arrow,
    **dict.fromkeys(_MASKED_DTYPES, dtypes.masked_to_arrow),
}
_NESTED_CONVERTERS: dict[type, Callable[[MaterializerRegistry, Any], ArrowColumn]] = {
    pd.CategoricalDtype: _category_to_arrow,
    pd.IntervalDtype: _interval_to_arrow,
    pd.SparseDtype: _sparse_to_arrow,
}
_BUFFERS: dict[str, Callable[[pa.DataType, PandasMetadata, int], Buffer]] = {
    "object": object_buffer,
    "complex": dtypes.complex_buffer,
    "string": dtypes.string_buffer,
    "datetimetz": dtypes.datetimetz_buffer,
    "period": dtypes.period_buffer,
    "arrow": dtypes.arrow_backed_buffer,
    "masked": dtypes.masked_buffer,
    "category": _category_buffer,
    "interval": _interval_buffer,
    "sparse": _sparse_buffer,
}
