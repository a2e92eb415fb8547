"""Columns of NumPy dtypes, whose Arrow type says it all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta, tzinfo
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.arrow.schema import roundtrips_in_parquet
from airflow_zen.materializers.pandas.buffers import (
    ArrayBuffer,
    ArrowColumn,
    ChunkBuffer,
    ColumnBuffer,
    ExtensionBuffer,
    PandasMetadata,
    to_single_array,
)
from airflow_zen.materializers.pandas.dtype_names import (
    DEFAULT_STRING,
    string_dtype,
    string_metadata,
    timezone_from_metadata,
    timezone_metadata,
)
from airflow_zen.materializers.registry import MaterializerRegistry

_PANDAS_DTYPES = {pa.large_string(): DEFAULT_STRING}

_ARROW_DTYPE_CHARS = "?bhilqBHILQefdMm"


def numpy_to_arrow(values: Any) -> ArrowColumn:
    """Wrap numbers, times and durations without copying; NaN and NaT become null, as every engine expects."""
    dtype = values.dtype
    if dtype.char in "FD":
        return ArrowColumn(values, _complex_to_struct, {"as": "complex", "dtype": dtype.name})
    if dtype.char in _ARROW_DTYPE_CHARS and dtype.isnative:
        return ArrowColumn(values, lambda part: pa.array(part, from_pandas=True))
    raise SaveRefused(f"A column of dtype {dtype!r} is not stored. Convert it to a dtype that Arrow has.")


def default_buffer(arrow_type: pa.DataType, rows: int) -> ColumnBuffer:
    """Make room for a column that has no note."""
    dtype = numpy_dtype(arrow_type)
    return (
        ArrayBuffer(dtype, rows, lambda chunk: chunk_to_numpy(chunk, "A column"))
        if dtype
        else ChunkBuffer(arrow_type, _chunks_to_pandas)
    )


def complex_buffer(_: pa.DataType, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room where the real and imaginary parts are joined."""
    return ArrayBuffer(metadata["dtype"], rows, lambda chunk: _struct_to_complex(chunk, metadata["dtype"]))


def numpy_dtype(arrow_type: pa.DataType) -> str:
    """Name the dtype of a column that `numpy_to_arrow` wrote without a note; `""` for any other."""
    if types.is_integer(arrow_type) or types.is_floating(arrow_type) or types.is_boolean(arrow_type):
        return str(np.dtype(arrow_type.to_pandas_dtype()))
    if types.is_duration(arrow_type) or (types.is_timestamp(arrow_type) and arrow_type.tz is None):
        return f"{'m' if types.is_duration(arrow_type) else 'M'}8[{arrow_type.unit}]"
    return ""


def chunk_to_numpy(chunk: pa.Array, what: str) -> Any:
    """Give a piece of a column that `numpy_dtype` names; `what` it is opens the error for nulls that it cannot have."""
    if chunk.null_count and (types.is_integer(chunk.type) or types.is_boolean(chunk.type)):
        raise ArtifactRefused(
            f"{what} of {chunk.type} has nulls and no note that says what they are, so pandas did not write it. "
            "Read it as a pyarrow.Table."
        )
    return chunk.to_numpy(zero_copy_only=False)


def _complex_to_struct(values: Any) -> pa.Array:
    parts = [pa.array(np.ascontiguousarray(part)) for part in (values.real, values.imag)]
    return pa.StructArray.from_arrays(parts, ["real", "imag"])


def _struct_to_complex(chunk: pa.Array, dtype: str) -> Any:
    values = np.empty(len(chunk), dtype)
    values.real, values.imag = (chunk.field(name).to_numpy() for name in ("real", "imag"))
    return values


def _chunks_to_pandas(array: pa.ChunkedArray) -> Any:
    series = array.to_pandas(types_mapper=_PANDAS_DTYPES.get)
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array


_NAT = int(np.iinfo("int64").min)


def string_to_arrow(values: Any) -> ArrowColumn:
    """Store strings of either storage; only those that are not the default `str` need a note."""
    metadata = string_metadata(values.dtype)
    column_metadata = {} if metadata == string_metadata(DEFAULT_STRING) else {"as": "string", **metadata}
    return ArrowColumn(values, lambda part: to_single_array(pa.array(part, pa.large_string())), column_metadata)


def string_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for strings of the noted storage and missing value."""
    dtype = string_dtype(dict(metadata))
    return ChunkBuffer(arrow_type, dtype.__from_arrow__) if dtype.storage == "pyarrow" else ExtensionBuffer(dtype, rows)


def masked_to_arrow(values: Any) -> ArrowColumn:
    """Store nullable numbers and booleans; a NaN that is not missing stays NaN."""
    return ArrowColumn(
        values, lambda part: to_single_array(pa.array(part)), {"as": "masked", "dtype": values.dtype.name}
    )


class MaskedBuffer:
    """Fill the two halves of a nullable array: a conversion would take NaN for missing."""

    def __init__(self, _: pa.DataType, metadata: PandasMetadata, rows: int) -> None:
        self._dtype = cast("Any", pd.api.types.pandas_dtype(metadata["dtype"]))
        self._array = np.empty(rows, self._dtype.numpy_dtype)
        self._missing = np.empty(rows, bool)

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert a piece."""
        rows = slice(at, at + len(chunk))
        self._missing[rows] = chunk.is_null().to_numpy(zero_copy_only=False)
        self._array[rows] = chunk.fill_null(self._dtype.type(0).item()).to_numpy(zero_copy_only=False)

    def values(self) -> Any:
        """Join the halves."""
        return self._dtype.construct_array_type()(self._array, self._missing)


def arrow_backed_to_arrow(values: Any) -> ArrowColumn:
    """Store an Arrow-backed column as it is; raises `SaveRefused` for a type that parquet would change."""
    stored = ArrowColumn(values, lambda part: to_single_array(pa.array(part)), {"as": "arrow"})
    if not roundtrips_in_parquet(pa.schema([pa.field("values", stored.type)])):
        raise SaveRefused(f"Parquet does not keep a column of {stored.type}. Convert it, or save a pyarrow.Table.")
    return stored


def arrow_backed_buffer(arrow_type: pa.DataType, _: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for an Arrow-backed array."""
    return ChunkBuffer(arrow_type, lambda array: pd.ArrowDtype(array.type).__from_arrow__(array))  # type: ignore[attr-defined]


def datetimetz_to_arrow(values: Any) -> ArrowColumn:
    """Store instants as UTC, with the zone's name for other readers and the zone itself in the note."""
    return ArrowColumn(values, _utc_timestamps, {"as": "datetimetz", "tz": timezone_metadata(values.tz)})


def datetimetz_buffer(arrow_type: Any, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for instants in their zone: integers, which pandas takes for UTC without a copy."""
    dtype = pd.DatetimeTZDtype(arrow_type.unit, timezone_from_metadata(metadata["tz"]))
    return ArrayBuffer("int64", rows, _to_int64, lambda array: pd.array(array, dtype=dtype, copy=False))


def period_to_arrow(values: Any) -> ArrowColumn:
    """Store periods as their ordinals."""
    dtype = values.dtype
    freq = dtype.name.removeprefix("period[").removesuffix("]")
    if pd.PeriodDtype(freq) != dtype:
        raise SaveRefused(f"The period {dtype!r} is more than its name {freq!r} says. Convert it to timestamps.")
    return ArrowColumn(values, _period_ordinals, {"as": "period", "freq": freq})


def period_buffer(_: pa.DataType, metadata: PandasMetadata, rows: int) -> ColumnBuffer:
    """Make room for periods of the noted frequency."""
    dtype = pd.PeriodDtype(metadata["freq"])
    return ArrayBuffer("int64", rows, _to_int64, lambda array: pd.arrays.PeriodArray(array, dtype=dtype))


def _utc_timestamps(values: Any) -> pa.Array:
    naive = pa.array(values.tz_convert(None).to_numpy(), from_pandas=True)
    return naive.cast(pa.timestamp(values.unit, _arrow_timezone_name(values.tz)))


def _period_ordinals(values: Any) -> pa.Array:
    return pa.array(values.astype("int64"), mask=np.asarray(values.isna()))


def _to_int64(chunk: pa.Array) -> Any:
    return chunk.cast(pa.int64()).fill_null(_NAT).to_numpy()


def _arrow_timezone_name(tz: tzinfo) -> str:
    """Name a zone for Arrow; an offset that has no such name is shown as UTC."""
    name = getattr(tz, "key", None) or getattr(tz, "zone", None)
    if name:
        return str(name)
    minutes, rest = divmod(tz.utcoffset(None) or timedelta(), timedelta(minutes=1))
    if rest or not minutes:
        return "UTC"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


ToArrow = Callable[[MaterializerRegistry, Any], ArrowColumn]
ToPandas = Callable[[pa.Array, PandasMetadata], Any]


def category_to_arrow(registry: MaterializerRegistry, values: Any, to_arrow: ToArrow) -> ArrowColumn:
    """Store a categorical; its categories, also unused ones, and their order go into the note."""
    coded = codes_to_arrow(registry, values.codes, values.categories, to_arrow)
    return ArrowColumn(coded.values, coded.to_arrow, {"as": "category", "ordered": values.ordered, **coded.metadata})


def category_buffer(metadata: PandasMetadata, rows: int, to_pandas: ToPandas) -> ColumnBuffer:
    """Make room for a categorical with the same categories and codes."""
    dtype = pd.CategoricalDtype(metadata["categories"], metadata["ordered"])
    return CodesBuffer(metadata, rows, to_pandas, lambda codes: pd.Categorical.from_codes(codes, dtype=dtype))


def codes_to_arrow(registry: MaterializerRegistry, codes: Any, categories: pd.Index, to_arrow: ToArrow) -> ArrowColumn:
    """Store positions in an index; -1 is null.

    The file shows the values themselves where these are distinct and of a flat Arrow type.
    """
    shown = _dictionary_values(registry, categories, to_arrow)
    if shown is None:
        return ArrowColumn(codes, _nullable_codes, {"categories": categories, "shown": None})
    values, metadata = shown
    dictionary = lambda part: pa.DictionaryArray.from_arrays(_nullable_codes(part), values)  # noqa: E731
    return ArrowColumn(codes, dictionary, {"categories": categories, "shown": metadata})


class CodesBuffer:
    """Fill in positions in an index; -1 for null."""

    def __init__(
        self,
        metadata: PandasMetadata,
        rows: int,
        to_pandas: ToPandas,
        finalize: Callable[[Any], Any] = lambda codes: codes,
    ) -> None:
        labels = pd.CategoricalDtype(pd.RangeIndex(len(metadata["categories"])))
        usual = pd.Categorical.from_codes(np.empty(0, "int64"), dtype=labels).codes.dtype
        self._array = np.full(rows, -1, usual)
        self._metadata = metadata
        self._to_pandas = to_pandas
        self._finalize = finalize
        self._dictionary: pa.Array | None = None
        self._dictionary_codes: Any = None

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert a piece."""
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        self._array[at : at + len(chunk)][valid] = self._decode_codes(chunk.drop_null())

    def values(self) -> Any:
        """Give what the positions mean."""
        return self._finalize(self._array)

    def _decode_codes(self, present: pa.Array) -> Any:
        if self._metadata["shown"] is None:
            return present.to_numpy()
        if not types.is_dictionary(present.type):
            return self._category_positions(present)
        # The labels of a row group are mostly those of the one before.
        if self._dictionary is None or not present.dictionary.equals(self._dictionary):
            self._dictionary = present.dictionary
            self._dictionary_codes = self._category_positions(self._dictionary).astype(self._array.dtype)
        return self._dictionary_codes[present.indices.to_numpy()]

    def _category_positions(self, values: pa.Array) -> Any:
        labels = self._to_pandas(values, self._metadata["shown"])
        found = self._metadata["categories"].get_indexer(pd.Index(labels, dtype=labels.dtype, tupleize_cols=False))
        if (found < 0).any():
            raise ArtifactRefused(
                f"A column holds {labels[found < 0][0]!r}, which is none of its categories. Read it as a pyarrow.Table, and "
                "run the step that made it again."
            )
        return found


def _nullable_codes(codes: Any) -> pa.Array:
    return pa.array(codes, mask=codes < 0)


def _dictionary_values(
    registry: MaterializerRegistry, categories: pd.Index, to_arrow: ToArrow
) -> tuple[pa.Array, PandasMetadata] | None:
    if not categories.is_unique or categories.hasnans:
        return None
    try:
        stored = to_arrow(
            registry, categories.to_numpy() if isinstance(categories.dtype, np.dtype) else categories.array
        )
        values = stored.array
    except SaveRefused:
        return None
    flat = not types.is_nested(values.type) and not types.is_dictionary(values.type)
    return (values, stored.metadata) if flat and not values.null_count else None
