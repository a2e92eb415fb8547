"""Codecs of pandas scalars, and of indexes small enough to stay inside a typed JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from airflow_zen.materializers.pandas.dtype_names import (
    string_dtype,
    string_metadata,
    timezone_from_metadata,
    timezone_metadata,
)
from airflow_zen.materializers.typed_json.codec import Codec, Json

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder

MAX_INLINE_LABELS = 1000


def library_codec(value: Any) -> Codec | None:
    """Find who writes a pandas value inside a tree; None for a table or index that is a file of its own."""
    if isinstance(value, pd.Index):
        return _codec_for_index(value) if isinstance(value, pd.RangeIndex) or len(value) <= MAX_INLINE_LABELS else None
    return _SCALAR_CODECS.get(type(value))


def _codec_for_index(value: pd.Index) -> Codec | None:
    if type(value) is pd.Index:
        plain = isinstance(value.dtype, np.dtype) and value.dtype.kind in "biufO"
        return _INDEX_CODEC if plain or isinstance(value.dtype, pd.StringDtype) else None
    return {pd.RangeIndex: _RANGE_CODEC, pd.MultiIndex: _MULTI_CODEC}.get(type(value))


def _encode_timestamp(value: pd.Timestamp, encoder: Encoder) -> Mapping[str, Json]:
    fields = {"unit": value.unit, "value": int(value.to_datetime64().view("i8"))}
    return fields if value.tz is None else {**fields, "tz": encoder.encode(timezone_metadata(value.tz))}


def _decode_timestamp(node: Mapping[str, Json], decoder: Decoder) -> Any:
    naive = pd.Timestamp(np.datetime64(node["value"], node["unit"]))
    return (
        naive.tz_localize("UTC").tz_convert(timezone_from_metadata(decoder.decode(node["tz"])))
        if "tz" in node
        else naive
    )


def _encode_timedelta(value: pd.Timedelta, _: Encoder) -> Mapping[str, Json]:
    return {"unit": value.unit, "value": int(value.to_timedelta64().view("i8"))}


def _decode_timedelta(node: Mapping[str, Json], _: Decoder) -> Any:
    return pd.Timedelta(np.timedelta64(node["value"], node["unit"]))


def _decode_period(node: Mapping[str, Json], _: Decoder) -> Any:
    return pd.Period(ordinal=node["ordinal"], freq=node["freq"])


def _encode_interval(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    return {"left": encoder.encode(value.left), "right": encoder.encode(value.right), "closed": value.closed}


def _decode_interval(node: Mapping[str, Json], decoder: Decoder) -> Any:
    return pd.Interval(decoder.decode(node["left"]), decoder.decode(node["right"]), node["closed"])


def _encode_index(value: pd.Index, encoder: Encoder) -> Mapping[str, Json]:
    if isinstance(value.dtype, pd.StringDtype):
        dtype: Json = string_metadata(value.dtype)
        items: Json = [encoder.encode(None if item is value.dtype.na_value else item) for item in value]
    else:
        dtype, items = cast("np.dtype[Any]", value.dtype).str, encoder.encode(value.tolist())
    return {"dtype": dtype, "name": encoder.encode(value.name), "items": items}


def _decode_index(node: Mapping[str, Json], decoder: Decoder) -> Any:
    dtype = string_dtype(node["dtype"]) if isinstance(node["dtype"], dict) else np.dtype(node["dtype"])
    items = decoder.decode(node["items"])
    values: Any = items
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        values = np.fromiter(items, dtype=object, count=len(items))
    return pd.Index(values, dtype=dtype, name=decoder.decode(node["name"]), tupleize_cols=False)


def _encode_range(value: pd.RangeIndex, encoder: Encoder) -> Mapping[str, Json]:
    return {"bounds": [value.start, value.stop, value.step], "name": encoder.encode(value.name)}


def _decode_range(node: Mapping[str, Json], decoder: Decoder) -> Any:
    start, stop, step = node["bounds"]
    return pd.RangeIndex(start, stop, step, name=decoder.decode(node["name"]))


def _encode_multi(value: pd.MultiIndex, encoder: Encoder) -> Mapping[str, Json]:
    return {
        "levels": [encoder.encode(level.rename(None)) for level in value.levels],
        "codes": [np.asarray(codes).tolist() for codes in value.codes],
        "names": encoder.encode(list(value.names)),
    }


def _decode_multi(node: Mapping[str, Json], decoder: Decoder) -> Any:
    return pd.MultiIndex(
        levels=[decoder.decode(level) for level in node["levels"]],
        codes=node["codes"],
        names=decoder.decode(node["names"]),
        verify_integrity=False,
    )


def _constant_codec(tag: str, value: Any) -> Codec:
    encode: Callable[[Any, Encoder], Mapping[str, Json]] = lambda _value, _to: {}  # noqa: E731
    return Codec(tag, encode, lambda _node, _of: value)


_SCALAR_CODECS = {
    pd.Timestamp: Codec("pandas.Timestamp", _encode_timestamp, _decode_timestamp),
    pd.Timedelta: Codec("pandas.Timedelta", _encode_timedelta, _decode_timedelta),
    pd.Period: Codec(
        "pandas.Period",
        lambda value, _: {"ordinal": value.ordinal, "freq": value.freqstr},
        _decode_period,
    ),
    pd.Interval: Codec("pandas.Interval", _encode_interval, _decode_interval),
    type(pd.NaT): _constant_codec("pandas.NaT", pd.NaT),
    type(pd.NA): _constant_codec("pandas.NA", pd.NA),
}
_INDEX_CODEC = Codec("pandas.Index", _encode_index, _decode_index)
_RANGE_CODEC = Codec("pandas.RangeIndex", _encode_range, _decode_range)
_MULTI_CODEC = Codec("pandas.MultiIndex", _encode_multi, _decode_multi)
CODECS = (*_SCALAR_CODECS.values(), _INDEX_CODEC, _RANGE_CODEC, _MULTI_CODEC)
