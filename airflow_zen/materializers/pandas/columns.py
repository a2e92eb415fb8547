"""Columns and row labels of pandas as columns of Arrow, and back to the same dtypes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.arrow.parquet_writer import MAX_ROW_GROUP_SIZE
from airflow_zen.materializers.pandas import dtypes
from airflow_zen.materializers.pandas.dtypes import ArrowColumn, Buffer, ChunkBuffer, ColumnBuffer, PandasMetadata
from airflow_zen.materializers.typed_json.codec import TAG
from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder, InlineOnly, canonical_json, is_utf8

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

_ARROW_TYPES = {str: pa.large_string(), bytes: pa.large_binary(), bool: pa.bool_(), int: pa.int64(), date: pa.date32()}
_MISSING = {"None": None, "nan": np.nan, "NA": pd.NA}


def column_to_arrow(registry: MaterializerRegistry, values: Any) -> ArrowColumn:
    """Return the conversion of a series, an index or an array to Arrow; raise `SaveRefused` for other dtypes."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _objects_to_arrow(registry, np.asarray(values)) if dtype.kind == "O" else dtypes.numpy_to_arrow(values)
    if convert := dtypes.CONVERTERS.get(type(dtype)):
        return convert(values)
    if convert_nested := _NESTED_CONVERTERS.get(type(dtype)):
        return convert_nested(registry, values)
    raise SaveRefused(
        f"The dtype {str(dtype)!r} of {type(dtype).__module__} is not stored. Convert the column with .astype(str), or with .astype(object) if its elements can be stored."
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
    """Return the values of a series, index or column: a NumPy array where the dtype is one of NumPy, else its extension array."""
    if isinstance(labels, np.ndarray):
        return labels
    return labels.to_numpy() if isinstance(labels.dtype, np.dtype) else getattr(labels, "array", labels)


def has_usual_dtype(columns: pd.Index) -> bool:
    """Whether the column labels are those that this release of pandas makes of their names."""
    if type(columns) is not pd.Index or columns.name is not None or not len(columns):
        return False
    usual = _dtype_of_text()
    return bool(columns.dtype == usual and getattr(columns.dtype, "storage", "") == getattr(usual, "storage", ""))


@cache
def _dtype_of_text() -> Any:
    """Return the dtype of an index of texts; pandas' option for it is read once."""
    return pd.Index(["text"]).dtype


def are_valid_column_names(names: Iterable[Any]) -> bool:
    """Whether labels can be the column names of a file: they are distinct, and strings that UTF-8 has."""
    labels = list(names)
    return all(type(label) is str and is_utf8(label) for label in labels) and len(set(labels)) == len(labels)


def index_columns(
    registry: MaterializerRegistry, index: pd.Index, used_names: Collection[str]
) -> tuple[dict[str, ArrowColumn], dict[str, Any]]:
    """Return the columns that hold the row labels, and the metadata that makes an index of them.

    The row numbers 0, 1, 2, … need neither. `used_names` are the names of the other columns in the file.
    """
    if isinstance(index, pd.RangeIndex):
        usual = used_names and index.equals(pd.RangeIndex(len(index))) and index.step == 1 and index.name is None
        return {}, {} if usual else {"index": {"range": index}}
    names = _index_column_names(index.names, used_names)
    if isinstance(index, pd.MultiIndex):
        pairs = zip(index.codes, index.levels, strict=True)
        levels = [_codes_to_arrow(registry, codes, level.rename(None)) for codes, level in pairs]
    else:
        levels = [column_to_arrow(registry, values_of(index))]
    metadata = {"names": list(index.names), "in": names, "how": [level.metadata for level in levels]}
    metadata |= {"multi": True} if isinstance(index, pd.MultiIndex) else {}
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) and index.freq is not None:
        metadata["freq"] = _freq_name(index.freq)
    return dict(zip(names, levels, strict=True)), {"index": metadata}


def index_buffers(metadata: PandasMetadata, schema: pa.Schema, rows: int) -> dict[str, Buffer]:
    """Return empty buffers for the columns that `index_columns` returned."""
    stored = [
        (name, schema.field(name).type, how)
        for name, how in zip(metadata.get("in", ()), metadata.get("how", ()), strict=True)
    ]
    if metadata.get("multi"):
        return {name: ColumnBuffer(arrow_type, rows, _CodeReader(how).read) for name, arrow_type, how in stored}
    return {name: buffer_for(arrow_type, how, rows) for name, arrow_type, how in stored}


def build_index(values: Mapping[str, Any], metadata: PandasMetadata, rows: int, at: int | None = None) -> pd.Index:
    """Return the labels of a table, or of its `rows` rows from `at` on; `values` are those of the buffers."""
    if not metadata:
        return pd.RangeIndex(at or 0, (at or 0) + rows)
    if "range" in metadata:
        # A table without columns has labels, and no rows.
        labels: pd.Index = metadata["range"]
        return labels if at is None else labels[at : at + rows]
    arrays = [values[name] for name in metadata["in"]]
    if metadata.get("multi"):
        levels = [how["categories"] for how in metadata["how"]]
        return pd.MultiIndex(levels=levels, codes=arrays, names=metadata["names"], verify_integrity=False)
    index: Any = pd.Index(arrays[0], arrays[0].dtype, name=metadata["names"][0], tupleize_cols=False, copy=False)
    if "freq" in metadata:
        index.freq = pd.tseries.frequencies.to_offset(metadata["freq"])
    return cast("pd.Index", index)


def _index_column_names(names: Collection[Any], used_names: Collection[str]) -> list[str]:
    """Return column names for the levels of an index: its own names, or else those that pandas uses."""
    wanted = list(names)
    if are_valid_column_names(wanted) and not set(wanted) & set(used_names):
        return wanted
    prefix = "__index_level"
    while any(name.startswith(prefix) for name in used_names):
        prefix = f"_{prefix}"
    return [f"{prefix}_{level}__" for level in range(len(wanted))]


def _freq_name(freq: Any) -> str:
    """Return the name of a frequency; raise `SaveRefused` for one that its name does not describe completely."""
    try:
        restorable = pd.tseries.frequencies.to_offset(freq.freqstr) == freq
    except ValueError:
        restorable = False  # such as pandas.DateOffset(months=1, days=2)
    if not restorable:
        raise SaveRefused(
            f"The frequency {freq!r} is more than its name {freq.freqstr!r} says. Set index.freq to None."
        )
    return str(freq.freqstr)


def _codes_to_arrow(registry: MaterializerRegistry, codes: Any, categories: pd.Index, **metadata: Any) -> ArrowColumn:
    """Store positions in an index, with -1 as null, and with further `metadata`.

    The file has the categories themselves if they are distinct and of a flat Arrow type.
    """
    values, shown = _dictionary_values(registry, categories)
    metadata |= {"categories": categories, "shown": shown}
    if values is None:
        return ArrowColumn(codes, _nullable_codes, metadata)
    return ArrowColumn(codes, lambda part: pa.DictionaryArray.from_arrays(_nullable_codes(part), values), metadata)


def _nullable_codes(codes: Any) -> pa.Array:
    return pa.array(codes, mask=codes < 0)


def _dictionary_values(registry: MaterializerRegistry, categories: pd.Index) -> tuple[Any, PandasMetadata | None]:
    if not categories.is_unique or categories.hasnans:
        return None, None
    try:
        stored = column_to_arrow(registry, values_of(categories))
        values = stored.convert(stored.values)
    except SaveRefused:
        return None, None
    flat = not types.is_nested(values.type) and not types.is_dictionary(values.type)
    return (values, stored.metadata) if flat and not values.null_count else (None, None)


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
                f"A column holds {labels[found < 0][0]!r}, which is none of its categories. Run the step that "
                "made it again."
            )
        return found


def _category_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    dtype = pd.CategoricalDtype(metadata["categories"], metadata["ordered"])
    finalize = partial(pd.Categorical.from_codes, dtype=dtype)
    return ColumnBuffer(arrow_type, rows, _CodeReader(metadata).read, finalize)


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
        if len(exact) == 1 and exact <= _ARROW_TYPES.keys():
            (cls,) = exact
            only_nan = kind is not float or all(value != value for value in values if type(value) is float)
            if only_nan and _is_convertible(values, cls):
                metadata = {"as": "object", "of": cls.__name__, "missing": missing}
                return ArrowColumn(values, partial(_uniform_array, kind=cls), metadata)
            break
    return ArrowColumn(values, partial(_json_array, registry), {"as": "object", "of": "json"})


def _is_convertible(values: Any, kind: type) -> bool:
    """Whether Arrow can represent every value; results are discarded, as they may need more memory than the objects."""
    try:
        for at in range(0, len(values), MAX_ROW_GROUP_SIZE):
            _uniform_array(values[at : at + MAX_ROW_GROUP_SIZE], kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return False
    return True


def _uniform_array(values: Any, kind: type) -> pa.Array:
    return pa.array(values, _ARROW_TYPES[kind], from_pandas=True)


def _json_array(registry: MaterializerRegistry, values: Any) -> pa.Array:
    encoder = Encoder(InlineOnly(registry, "a cell of a table", "Return it beside the table, in a dict."))
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


_NESTED_CONVERTERS: dict[type, Callable[[MaterializerRegistry, Any], ArrowColumn]] = {
    pd.CategoricalDtype: lambda registry, values: _codes_to_arrow(
        registry, values.codes, values.categories, **{"as": "category", "ordered": values.ordered}
    ),
    pd.IntervalDtype: _interval_to_arrow,
    pd.SparseDtype: _sparse_to_arrow,
}
_BUFFERS: dict[str, Callable[[pa.DataType, PandasMetadata, int], Buffer]] = {
    **dtypes.BUFFERS,
    "object": lambda arrow_type, how, rows: ColumnBuffer(arrow_type, rows, partial(_to_objects, metadata=how)),
    "category": _category_buffer,
    "interval": _interval_buffer,
    "sparse": _sparse_buffer,
}
