"""Codecs of NumPy scalars and dtypes, and of arrays small enough to be part of typed JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_zen.materializers.typed_json.codec import Codec, Json

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder

MAX_INLINE_ELEMENTS = 1000
_JSON_DTYPE_CHARS = "?bhilqBHILQefd"


def library_codec(value: Any) -> Codec | None:
    """Return the codec of a NumPy value inside typed JSON; None for an array that is a file of its own."""
    if isinstance(value, np.dtype):
        return _DTYPE_CODEC
    if isinstance(value, np.generic):
        return _SCALAR_CODEC if _is_exact_in_json(np.asarray(value)) else _RAW_BYTES_CODEC
    inline = type(value) is np.ndarray and value.size <= MAX_INLINE_ELEMENTS and _is_exact_in_json(value)
    return _ARRAY_CODEC if inline else None


def _is_exact_in_json(value: np.ndarray[Any, Any]) -> bool:
    """Whether JSON numbers keep all values; they do not keep the payload of a NaN."""
    if value.dtype.char not in _JSON_DTYPE_CHARS or value.dtype.metadata is not None:
        return False
    if value.dtype.kind != "f":
        return True
    missing = value[np.isnan(value)]
    return bool(missing.tobytes() == np.full_like(missing, np.nan).tobytes())


def _encode_raw(value: np.generic, encoder: Encoder) -> Mapping[str, Json]:
    dtype = value.dtype
    if dtype.char in "gG":
        remedy = "its bytes differ between machines. Convert it to float64 or complex128."
        raise encoder.unsupported_error(value, remedy)
    if dtype.hasobject or dtype.fields is not None or type(value) is not dtype.type or np.dtype(dtype.str) != dtype:
        remedy = "its dtype has no exact JSON form. Convert it with .item(), or keep it in an array."
        raise encoder.unsupported_error(value, remedy)
    return {"dtype": dtype.str, "bytes": value.tobytes().hex()}


def _decode_raw(node: Mapping[str, Json], decoder: Decoder) -> Any:
    dtype = np.dtype(node["dtype"])
    raw = bytes.fromhex(node["bytes"])
    # An array would drop zeros at the end of a text as padding.
    if dtype.kind in "SV":
        return dtype.type(raw[: dtype.itemsize])
    if dtype.kind == "U":
        encoding = "utf-32-be" if dtype.str[0] == ">" else "utf-32-le"
        return np.str_(raw[: dtype.itemsize].decode(encoding, "surrogatepass"))
    array = np.frombuffer(raw, dtype)
    return array[0] if array.size else dtype.type()


def _encode_array(value: np.ndarray[Any, Any], encoder: Encoder) -> Mapping[str, Json]:
    order: Literal["C", "F"] = "F" if value.flags.fnc else "C"
    items = encoder.encode(value.ravel(order=order).tolist())
    return {"dtype": value.dtype.str, "shape": list(value.shape), "order": order, "items": items}


def _decode_array(node: Mapping[str, Json], decoder: Decoder) -> Any:
    flat = np.array(decoder.decode(node["items"]), dtype=np.dtype(node["dtype"]))
    return flat.reshape(node["shape"], order=node["order"])


def _encode_dtype(value: np.dtype[Any], encoder: Encoder) -> Mapping[str, Json]:
    if value.metadata is not None or value.kind == "T" or np.dtype(value.str) != value:
        remedy = "Keep str(dtype), or an empty array of it." if value.metadata is None else "Keep str(dtype)."
        raise encoder.unsupported_error(value, f"it has no exact name. {remedy}")
    return {"str": value.str}


_DTYPE_CODEC = Codec("numpy.dtype", _encode_dtype, lambda node, _: np.dtype(node["str"]))
_SCALAR_CODEC = Codec(
    "numpy.scalar",
    lambda value, to: {"dtype": type(value).__name__, "value": to.encode(value.item())},
    lambda node, of: np.dtype(node["dtype"]).type(of.decode(node["value"])),
)
_RAW_BYTES_CODEC = Codec("numpy.bytes", _encode_raw, _decode_raw)
_ARRAY_CODEC = Codec("numpy.array", _encode_array, _decode_array)
CODECS = (_DTYPE_CODEC, _SCALAR_CODEC, _RAW_BYTES_CODEC, _ARRAY_CODEC)
