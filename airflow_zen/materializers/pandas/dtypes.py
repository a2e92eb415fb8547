"""Columns of NumPy, string, nullable, Arrow-backed, zoned and period dtypes as Arrow, and back; tables of Arrow as frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta, timezone, tzinfo
from functools import partial
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.arrow.parquet_writer import roundtrips_in_parquet

PandasMetadata = Mapping[str, Any]

_MASKED_DTYPES = (
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
    *(pd.Float32Dtype, pd.Float64Dtype, pd.BooleanDtype),
)
_ARROW_DTYPE_CHARS = "?bhilqBHILQefdMm"
_NAT = int(np.iinfo("int64").min)
# pandas' own integers with nulls are floats, which do not have every integer; its booleans with nulls are objects.
_NULLABLE_DTYPES: dict[Any, Any] = {
    **{pa.type_for_alias(f"int{bits}"): getattr(pd, f"Int{bits}Dtype")() for bits in (8, 16, 32, 64)},
    **{pa.type_for_alias(f"uint{bits}"): getattr(pd, f"UInt{bits}Dtype")() for bits in (8, 16, 32, 64)},
    pa.bool_(): pd.BooleanDtype(),
}


@dataclass(frozen=True)
class ArrowColumn:
    """The values of a column, the function that converts them to Arrow, and the metadata that restore their dtype.

    A frame is converted in groups of rows, so that it is in memory once. `metadata` applies to all rows; it is empty
    for the usual dtypes.
    """

    values: Any
    to_arrow: Callable[[Any], Any]
    metadata: PandasMetadata = field(default_factory=dict)

    @property
    def type(self) -> pa.DataType:
        """Return the Arrow type, which is the same for all rows."""
        return self.convert(self.values[:0]).type

    def convert(self, values: Any) -> pa.Array:
        """Return some of the values as one Arrow array; raise `SaveRefused` for a value that Arrow does not have."""
        try:
            array = self.to_arrow(values)
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise SaveRefused(
                f"A column of dtype {self.values.dtype} does not fit into Arrow: {error}. Convert it with .astype() to a dtype that holds the values."
            ) from error
        if not isinstance(array, pa.ChunkedArray):
            return array
        return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()


@dataclass
class ColumnBuffer:
    """Collect the chunks of a column in order, and return the values of a series or index.

    Each chunk is converted and copied into one array when it is read, so that the column is never in memory a second
    time as Arrow. `array` is that array, by default a new one. `finalize` converts it to the values.
    """

    arrow_type: pa.DataType
    rows: int
    convert: Callable[[pa.Array], Any]
    finalize: Callable[[Any], Any] = lambda array: array
    array: Any = None

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert the rows that begin at `at`."""
        if not len(chunk):
            return
        values = self.convert(chunk)
        if self.array is None:
            self.array = _allocate(values, self.rows)
        self.array[at : at + len(chunk)] = values

    def values(self) -> Any:
        """Return the values of all rows."""
        return self.finalize(self.convert(pa.array([], self.arrow_type)) if self.array is None else self.array)


@dataclass
class ChunkBuffer:
    """Collect the chunks of a column that become its values without a copy; `finalize` joins the converted chunks."""

    arrow_type: pa.DataType
    finalize: Callable[[list[Any]], Any]
    convert: Callable[[pa.Array], Any] = lambda chunk: chunk
    chunks: list[Any] = field(default_factory=list)

    def fill(self, chunk: pa.Array, at: int) -> None:
        """Convert the next rows."""
        self.chunks.append(self.convert(chunk))

    def values(self) -> Any:
        """Return the values of all rows."""
        # Dictionaries are read with an index type of parquet's own, so the type of the column counts only without chunks.
        return self.finalize(self.chunks or [self.convert(pa.array([], self.arrow_type))])


Buffer = ColumnBuffer | ChunkBuffer


def _allocate(values: Any, rows: int) -> Any:
    """Return an array of `rows` to which values of this dtype can be assigned."""
    if isinstance(values, np.ndarray):
        return np.empty(rows, values.dtype)
    # An interval dtype has no empty arrays of its own.
    return values[:1].repeat(rows) if isinstance(values.dtype, pd.IntervalDtype) else values.dtype.empty(rows)


def numpy_to_arrow(values: Any) -> ArrowColumn:
    """Wrap numbers, times and durations without a copy; NaN and NaT become null, as other engines expect."""
    dtype = values.dtype
    if dtype.char in "FD":
        return ArrowColumn(values, _complex_to_struct, {"as": "complex", "dtype": dtype.name})
    if dtype.char in _ARROW_DTYPE_CHARS and dtype.isnative:
        return ArrowColumn(values, partial(pa.array, from_pandas=True))
    raise SaveRefused(
        f"A column of dtype {dtype!r} is not stored. Convert it to a dtype that Arrow has, such as .astype('float64')."
    )


def default_buffer(arrow_type: pa.DataType, rows: int, what: str = "A column", array: Any = None) -> Buffer:
    """Return the buffer of a column without metadata; `what` names it in errors, `array` receives NumPy values."""
    if array is not None or numpy_dtype(arrow_type):
        return ColumnBuffer(arrow_type, rows, partial(_chunk_to_numpy, what=what), array=array)
    return ChunkBuffer(arrow_type, _chunks_to_pandas)


def numpy_dtype(arrow_type: pa.DataType) -> str:
    """Return the NumPy dtype of a column that is stored without metadata; `""` for any other type."""
    if types.is_integer(arrow_type) or types.is_floating(arrow_type) or types.is_boolean(arrow_type):
        return str(np.dtype(arrow_type.to_pandas_dtype()))
    if types.is_duration(arrow_type) or (types.is_timestamp(arrow_type) and arrow_type.tz is None):
        return f"{'m' if types.is_duration(arrow_type) else 'M'}8[{arrow_type.unit}]"
    return ""


def _chunk_to_numpy(chunk: pa.Array, what: str) -> Any:
    if chunk.null_count and (types.is_integer(chunk.type) or types.is_boolean(chunk.type)):
        raise ArtifactRefused(
            f"{what} of {chunk.type} has nulls and no metadata about them, so pandas did not write it. "
            "Read it as a pyarrow.Table."
        )
    return chunk.to_numpy(zero_copy_only=False)


def _chunks_to_pandas(chunks: list[pa.Array]) -> Any:
    series = pa.chunked_array(chunks).to_pandas(types_mapper={pa.large_string(): _DEFAULT_STRING}.get)
    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array


def _complex_to_struct(values: Any) -> pa.Array:
    parts = [pa.array(np.ascontiguousarray(part)) for part in (values.real, values.imag)]
    return pa.StructArray.from_arrays(parts, ["real", "imag"])


def _complex_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    def convert(chunk: pa.Array) -> Any:
        values = np.empty(len(chunk), metadata["dtype"])
        values.real, values.imag = (chunk.field(name).to_numpy() for name in ("real", "imag"))
        return values

    return ColumnBuffer(arrow_type, rows, convert)


def string_metadata(dtype: pd.StringDtype) -> dict[str, str]:
    """Return the storage and the missing value of a string dtype."""
    return {"string": dtype.storage, "na": "NA" if dtype.na_value is pd.NA else "nan"}


def string_dtype(metadata: Mapping[str, Any]) -> Any:
    """Return the string dtype that `string_metadata` describes."""
    return pd.StringDtype(metadata["string"], na_value=pd.NA if metadata["na"] == "NA" else np.nan)


# The dtype of a string column without metadata: `str`, which pandas 3 gives to text.
_DEFAULT_METADATA = {"string": "pyarrow", "na": "nan"}
_DEFAULT_STRING = string_dtype(_DEFAULT_METADATA)


def _string_to_arrow(values: Any) -> ArrowColumn:
    metadata = string_metadata(values.dtype)
    stored = {} if metadata == _DEFAULT_METADATA else {"as": "string", **metadata}
    return ArrowColumn(values, partial(pa.array, type=pa.large_string()), stored)


def _string_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    dtype = string_dtype(metadata)
    if dtype.storage == "pyarrow":
        return ChunkBuffer(arrow_type, lambda chunks: dtype.__from_arrow__(pa.chunked_array(chunks)))
    return ColumnBuffer(arrow_type, rows, dtype.__from_arrow__)


def _masked_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return the buffer of a nullable array, from numbers and a mask: pandas' own conversion treats NaN as missing."""
    dtype = cast("Any", pd.api.types.pandas_dtype(metadata["dtype"]))

    def convert(chunk: pa.Array) -> Any:
        numbers = chunk.fill_null(dtype.type(0).item()).to_numpy(zero_copy_only=False)
        return dtype.construct_array_type()(numbers, chunk.is_null().to_numpy(zero_copy_only=False))

    return ColumnBuffer(arrow_type, rows, convert)


def _arrow_backed_to_arrow(values: Any) -> ArrowColumn:
    stored = ArrowColumn(values, pa.array, {"as": "arrow"})
    if not roundtrips_in_parquet(pa.schema([pa.field("values", stored.type)])):
        raise SaveRefused(
            f"Parquet does not keep a column of {stored.type}. Convert it with .astype(), to 'category' or 'str' for example, "
            "or return the frame as pyarrow.Table.from_pandas(frame)."
        )
    return stored


def _arrow_backed_values(chunks: list[pa.Array]) -> Any:
    dtype: Any = pd.ArrowDtype(chunks[0].type)
    return dtype.__from_arrow__(pa.chunked_array(chunks))


def timezone_metadata(tz: tzinfo | None) -> Any:
    """Return a time zone of the standard library as it is, one of pytz by its name; raise `SaveRefused` for any other."""
    if tz is None or type(tz) in (timezone, ZoneInfo):
        return tz
    name = getattr(tz, "zone", None)
    if type(tz).__module__.partition(".")[0] == "pytz" and name:
        return {"pytz": name}
    raise SaveRefused(f"The time zone {tz!r} is of {type(tz).__module__}. Convert it to a zoneinfo.ZoneInfo.")


def timezone_from_metadata(metadata: Any) -> tzinfo | None:
    """Return the time zone that `timezone_metadata` describes; without pytz, a `ZoneInfo` for a zone of pytz."""
    if not isinstance(metadata, dict):
        return cast("tzinfo | None", metadata)
    try:
        import pytz
    except ModuleNotFoundError:
        return ZoneInfo(metadata["pytz"])
    return cast("tzinfo", pytz.timezone(metadata["pytz"]))


def _utc_timestamps(values: Any) -> pa.Array:
    """Return instants as UTC under the name of their zone, for other readers; the exact zone is metadata."""
    naive = pa.array(values.tz_convert(None).to_numpy(), from_pandas=True)
    return naive.cast(pa.timestamp(values.unit, _arrow_timezone_name(values.tz)))


def _arrow_timezone_name(tz: tzinfo) -> str:
    """Return Arrow's name of a zone; `UTC` for an offset that has no name."""
    if name := getattr(tz, "key", None) or getattr(tz, "zone", None):
        return str(name)
    minutes, rest = divmod(tz.utcoffset(None) or timedelta(), timedelta(minutes=1))
    if rest or not minutes:
        return "UTC"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _datetimetz_buffer(arrow_type: Any, metadata: PandasMetadata, rows: int) -> Buffer:
    """Return the buffer of instants: integers, which pandas takes for UTC without a copy."""
    dtype = pd.DatetimeTZDtype(arrow_type.unit, timezone_from_metadata(metadata["tz"]))
    return ColumnBuffer(arrow_type, rows, _to_int64, lambda array: pd.array(array, dtype=dtype, copy=False))


def _period_to_arrow(values: Any) -> ArrowColumn:
    dtype = values.dtype
    freq = dtype.name.removeprefix("period[").removesuffix("]")
    if not _is_period_named(dtype, freq):
        raise SaveRefused(
            f"No period has the name {freq!r} of this dtype. Make the periods with a frequency that has a name, such as 'W-SUN'."
        )
    to_ordinals = lambda part: pa.array(part.astype("int64"), mask=np.asarray(part.isna()))  # noqa: E731
    return ArrowColumn(values, to_ordinals, {"as": "period", "freq": freq})


def _is_period_named(dtype: pd.PeriodDtype, freq: str) -> bool:
    try:
        return bool(pd.PeriodDtype(freq) == dtype)
    except ValueError:
        return False  # such as pandas.offsets.Week(), with which pandas itself does not compute


def _period_buffer(arrow_type: pa.DataType, metadata: PandasMetadata, rows: int) -> Buffer:
    dtype = pd.PeriodDtype(metadata["freq"])
    return ColumnBuffer(arrow_type, rows, _to_int64, lambda array: pd.arrays.PeriodArray(array, dtype=dtype))


def _to_int64(chunk: pa.Array) -> Any:
    return chunk.cast(pa.int64()).fill_null(_NAT).to_numpy()


def arrow_to_pandas(table: pa.Table, with_nulls: Collection[str] | None = None, at: int = 0) -> pd.DataFrame:
    """Return a table as a frame; integers and booleans of columns with nulls get a nullable dtype.

    `with_nulls` names those columns if the table is a part of a larger one, from row `at` on, because the part may have
    no nulls.
    """
    frame: pd.DataFrame = table.to_pandas()
    names = list(frame.columns)
    for number, (stored, column) in enumerate(zip(table.schema, table.columns, strict=True)):
        has_nulls = column.null_count if with_nulls is None else stored.name in with_nulls
        is_label = len(names) < table.num_columns and stored.name not in names
        if has_nulls and stored.type in _NULLABLE_DTYPES and not is_label:
            position = number if len(names) == table.num_columns else names.index(stored.name)
            frame.isetitem(position, column.to_pandas(types_mapper=_NULLABLE_DTYPES.get).array)
    if with_nulls is not None and type(frame.index) is pd.RangeIndex:
        frame.index = pd.RangeIndex(at, at + len(frame))
    return frame


CONVERTERS: dict[type, Callable[[Any], ArrowColumn]] = {
    pd.StringDtype: _string_to_arrow,
    pd.DatetimeTZDtype: lambda values: ArrowColumn(
        values, _utc_timestamps, {"as": "datetimetz", "tz": timezone_metadata(values.tz)}
    ),
    pd.PeriodDtype: _period_to_arrow,
    pd.ArrowDtype: _arrow_backed_to_arrow,
    **dict.fromkeys(
        _MASKED_DTYPES, lambda values: ArrowColumn(values, pa.array, {"as": "masked", "dtype": values.dtype.name})
    ),
}
"""The conversions of extension dtypes to Arrow."""

BUFFERS: dict[str, Callable[[pa.DataType, PandasMetadata, int], Buffer]] = {
    "complex": _complex_buffer,
    "string": _string_buffer,
    "datetimetz": _datetimetz_buffer,
    "period": _period_buffer,
    "arrow": lambda arrow_type, _metadata, _rows: ChunkBuffer(arrow_type, _arrow_backed_values),
    "masked": _masked_buffer,
}
"""The buffers of the columns of a type and number of rows, by `as` in their metadata."""
