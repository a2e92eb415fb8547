"""One column of pandas as one column of Arrow, and back to the same dtype."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.arrow.parquet_writer import MAX_ROW_GROUP_SIZE
from airflow_zen.materializers.pandas import dtypes
from airflow_zen.materializers.pandas.buffers import ArrowColumn, Buffer, ChunkBuffer, ColumnBuffer, PandasMetadata
from airflow_zen.materializers.typed_json.codec import TAG
from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder, canonical_json
from airflow_zen.materializers.typed_json.nested import InlineOnly

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

_MASKED_DTYPES = (
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
    *(pd.Float32Dtype, pd.Float64Dtype, pd.BooleanDtype),
)
_ARROW_TYPES = {
    str: pa.large_string(),
    bytes: pa.large_binary(),
    bool: pa.bool_(),
    int: pa.int64(),
    date: pa.date32(),
}
_MISSING = {"None": None, "nan": np.nan, "NA": pd.NA}


def column_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    """Return how the values of a series or index, a NumPy or extension array, become Arrow; raise `SaveRefused`."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _objects_to_arrow(registry, np.asarray(values)) if dtype.kind == "O" else dtypes.numpy_to_arrow(values)
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


def _objects_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    """Store objects as plain Arrow where all are of one exact type, else as typed JSON in each cell."""
    kinds = set(map(type, values))
    for missing, kind in (("None", type(None)), ("NA", type(pd.NA)), ("nan", float)):
        exact = kinds - {kind}
        if len(exact) == 1 and exact <= _ARROW_TYPES.keys() and (kind is not float or _only_nan(values, kinds)):
            (cls,) = exact
            if _is_convertible(values, cls):
                metadata = {"as": "object", "of": cls.__name__, "missing": missing}
                return ArrowColumn(values, partial(_uniform_array, kind=cls), metadata)
            break
    return ArrowColumn(values, partial(_json_array, registry), {"as": "object", "of": "json"})


def _only_nan(values: Any, kinds: set[type]) -> bool:
    return float not in kinds or all(value != value for value in values if type(value) is float)


def _is_convertible(values: Any, kind: type) -> bool:
    """Whether Arrow has every value; nothing is kept, since the texts of a column may need more memory than its objects."""
    try:
        for at in range(0, len(values), MAX_ROW_GROUP_SIZE):
            _uniform_array(values[at : at + MAX_ROW_GROUP_SIZE], kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return False
    return True


def _uniform_array(values: Any, kind: type) -> pa.Array:
    return pa.array(values, _ARROW_TYPES[kind], from_pandas=True)


def _json_array(registry: MaterializerRegistry, values: Any) -> pa.Array:
    encoder = Encoder(InlineOnly(registry, "a cell of a table"))
    return pa.array([canonical_json(encoder.encode(value)) for value in values], pa.large_string())


def _to_objects(chunk: pa.Array, metadata: PandasMetadata) -> Any:
    if metadata["of"] == "json":
        return _object_array(_parse_cells(chunk.to_pylist()))
    missing = _MISSING[metadata["missing"]]
    items = chunk.to_numpy(zero_copy_only=False) if metadata["of"] in ("str", "bytes") else chunk.to_pylist()
    if missing is not None and chunk.null_count:
        items = [missing if item is None else item for item in items]
    return _object_array(items)


def _object_array(items: Any) -> Any:
    return np.fromiter(items, dtype=object, count=len(items))


def _parse_cells(texts: list[str]) -> list[Any]:
    """Return the values of all cells, parsed as one text: one by one, a million of them takes three times as long."""
    text = f"[{','.join(texts)}]"
    nodes: list[Any] = json.loads(text)
    if len(nodes) != len(texts):
        raise ArtifactRefused("A cell of a table is not one value of typed JSON.")
    if f'"{TAG}"' not in text:
        return nodes
    decoder = Decoder(_refuse_part)
    return [decoder.decode(node) for node in nodes]


def _refuse_part(node: Any, _: Any) -> Any:
    raise ArtifactRefused(f"A cell of a table refers to files of its own: {node!r}.")


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
    "object": lambda arrow_type, how, rows: ColumnBuffer(arrow_type, rows, partial(_to_objects, metadata=how)),
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
