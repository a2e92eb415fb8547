"""Codecs of pandas scalars, and of indexes small enough to be part of typed JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from airflow_zen.materializers.pandas import dtypes
from airflow_zen.materializers.typed_json.codec import Codec, Json

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder

MAX_INLINE_LABELS = 1000


def library_codec(value: Any) -> Codec | None:
    """Return the codec of a pandas value inside typed JSON; None for a table or index that is a file of its own."""
    if isinstance(value, pd.Index) and len(value) > MAX_INLINE_LABELS and not isinstance(value, pd.RangeIndex):
        return None
    if type(value) is pd.Index and not isinstance(value.dtype, pd.StringDtype):
        return _CODECS[pd.Index] if isinstance(value.dtype, np.dtype) and value.dtype.kind in "biufO" else None
    return _CODECS.get(type(value))


def _encode_timestamp(value: pd.Timestamp, encoder: Encoder) -> Mapping[str, Json]:
    fields = {"unit": value.unit, "value": int(value.to_datetime64().view("i8"))}
    return fields if value.tz is None else {**fields, "tz": encoder.encode(dtypes.timezone_metadata(value.tz))}


def _decode_timestamp(node: Mapping[str, Json], decoder: Decoder) -> Any:
    naive = pd.Timestamp(np.datetime64(node["value"], node["unit"]))
    if "tz" not in node:
        return naive
    return naive.tz_localize("UTC").tz_convert(dtypes.timezone_from_metadata(decoder.decode(node["tz"])))


def _encode_index(value: pd.Index, encoder: Encoder) -> Mapping[str, Json]:
    if isinstance(value.dtype, pd.StringDtype):
        dtype: Json = dtypes.string_metadata(value.dtype)
        items: Json = [encoder.encode(None if item is value.dtype.na_value else item) for item in value]
    else:
        dtype, items = cast("np.dtype[Any]", value.dtype).str, encoder.encode(value.tolist())
    return {"dtype": dtype, "name": encoder.encode(value.name), "items": items}


def _decode_index(node: Mapping[str, Json], decoder: Decoder) -> Any:
    dtype: Any = dtypes.string_dtype(node["dtype"]) if isinstance(node["dtype"], dict) else np.dtype(node["dtype"])
    items = decoder.decode(node["items"])
    if dtype.kind == "O" and isinstance(dtype, np.dtype):
        items = np.fromiter(items, dtype=object, count=len(items))
    return pd.Index(items, dtype=dtype, name=decoder.decode(node["name"]), tupleize_cols=False)


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


_CODECS = {
    pd.Timestamp: Codec("pandas.Timestamp", _encode_timestamp, _decode_timestamp),
    pd.Timedelta: Codec(
        "pandas.Timedelta",
        lambda value, _: {"unit": value.unit, "value": int(value.to_timedelta64().view("i8"))},
        lambda node, _: pd.Timedelta(np.timedelta64(node["value"], node["unit"])),
    ),
    pd.Period: Codec(
        "pandas.Period",
        lambda value, _: {"ordinal": value.ordinal, "freq": value.freqstr},
        lambda node, _: pd.Period(ordinal=node["ordinal"], freq=node["freq"]),
    ),
    pd.Interval: Codec(
        "pandas.Interval",
        lambda value, to: {"left": to.encode(value.left), "right": to.encode(value.right), "closed": value.closed},
        lambda node, of: pd.Interval(of.decode(node["left"]), of.decode(node["right"]), node["closed"]),
    ),
    type(pd.NaT): Codec("pandas.NaT", lambda _value, _to: {}, lambda _node, _of: pd.NaT),
    type(pd.NA): Codec("pandas.NA", lambda _value, _to: {}, lambda _node, _of: pd.NA),
    pd.Index: Codec("pandas.Index", _encode_index, _decode_index),
    pd.RangeIndex: Codec(
        "pandas.RangeIndex",
        lambda value, to: {"bounds": [value.start, value.stop, value.step], "name": to.encode(value.name)},
        lambda node, of: pd.RangeIndex(range(*node["bounds"]), name=of.decode(node["name"])),
    ),
    pd.MultiIndex: Codec("pandas.MultiIndex", _encode_multi, _decode_multi),
}
CODECS = tuple(_CODECS.values())
