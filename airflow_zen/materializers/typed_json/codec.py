"""What a codec is, and the codecs of Python's own scalars, times and containers."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from airflow_zen.materializers.annotations import element_type
from airflow_zen.type_names import class_reference

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder

TAG = "$"

Json = Any
"""What `json` reads and writes: None, bool, int, float, str, list, and dict with str keys."""


class Codec(msgspec.Struct, frozen=True):
    """Write one kind of value as a tagged JSON object, and read it.

    `encode` returns the fields beside the tag. It encodes the values inside with the encoder it is given, and `decode`
    decodes them with the decoder.
    """

    tag: str
    encode: Callable[[Any, Encoder], Mapping[str, Json]]
    decode: Callable[[Mapping[str, Json], Decoder], Any]


def field_codec(tag: str, name: str, write: Callable[[Any], Json], read: Callable[[Any], Any]) -> Codec:
    """Return the codec of a value that is one JSON field."""
    return Codec(tag, lambda value, _: {name: write(value)}, lambda node, _: read(node[name]))


def wall_clock_codec(tag: str, cls: Any) -> Codec:
    """Return the codec of a datetime or time class: wall clock, zone and fold."""

    def encode(value: datetime | time, encoder: Encoder) -> Mapping[str, Json]:
        fields: dict[str, Json] = {"iso": value.replace(tzinfo=None, fold=0).isoformat()}
        if value.tzinfo is not None:
            fields["tz"] = encoder.encode(value.tzinfo)
        if value.fold:
            fields["fold"] = value.fold
        return fields

    def decode(node: Mapping[str, Json], decoder: Decoder) -> Any:
        return cls.fromisoformat(node["iso"]).replace(tzinfo=decoder.decode(node.get("tz")), fold=node.get("fold", 0))

    return Codec(tag, encode, decode)


def _encode_base64(value: bytes) -> str:
    return b64encode(value).decode()


def _encode_timezone(value: timezone, encoder: Encoder) -> Mapping[str, Json]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    fields: dict[str, Json] = {"offset": _timedelta_fields(offset)}
    return {**fields, "name": encoder.encode(name[0])} if name else fields


def _decode_timezone(node: Mapping[str, Json], decoder: Decoder) -> timezone:
    offset = timedelta(*node["offset"])
    return timezone(offset, decoder.decode(node["name"])) if "name" in node else timezone(offset)


def _encode_zoneinfo(value: ZoneInfo, encoder: Encoder) -> Mapping[str, Json]:
    if value.key is None:
        remedy = "it was read from a file and has no key to find it by. Use ZoneInfo(key)."
        raise encoder.unsupported_error(value, remedy)
    return {"key": value.key}


def _timedelta_fields(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _list_codec(tag: str, name: str, items: Callable[[Any], tuple[Any, ...]], build: Callable[..., Any]) -> Codec:
    """Return the codec of a value that is built from a few others."""
    return Codec(
        tag,
        lambda value, encoder: {name: [encoder.encode(item) for item in items(value)]},
        lambda node, decoder: build(*decoder.decode(node[name])),
    )


def _bounds(value: range | slice) -> tuple[Any, ...]:
    return value.start, value.stop, value.step


def _encode_items(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    return {"items": [encoder.encode(item) for item in value]}


def _encode_set(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    return {"items": encoder.encode_unordered(value)}


def _collection_codec(tag: str, build: Callable[[list[Any]], Any], encode: Callable[[Any, Encoder], Any]) -> Codec:
    return Codec(tag, encode, lambda node, decoder: build(decoder.decode(node["items"], decoder.declared)))


def _encode_pairs(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    if getattr(value, "__dict__", None):
        raise encoder.unsupported_error(value, "it carries attributes of its own. Keep them in a dataclass beside it.")
    return {"pairs": [[encoder.encode(key), encoder.encode(item)] for key, item in value.items()]}


def _decode_pairs(node: Mapping[str, Json], decoder: Decoder) -> dict[Any, Any]:
    inner = element_type(decoder.declared)
    return {decoder.decode(key): decoder.decode(item, inner) for key, item in node["pairs"]}


def _mapping_codec(tag: str, cls: type) -> Codec:
    return Codec(tag, _encode_pairs, lambda node, decoder: cls(_decode_pairs(node, decoder)))


def _encode_defaultdict(value: defaultdict[Any, Any], encoder: Encoder) -> Mapping[str, Json]:
    factory = value.default_factory
    if factory is not None and not isinstance(factory, type):
        remedy = f"its factory {factory!r} is no class that could be found again. Convert it to dict."
        raise encoder.unsupported_error(value, remedy)
    return {"factory": class_reference(factory) if factory else None, **_encode_pairs(value, encoder)}


def _decode_defaultdict(node: Mapping[str, Json], decoder: Decoder) -> defaultdict[Any, Any]:
    factory = decoder.resolve_class(node["factory"], "class", lambda _: True) if node["factory"] else None
    return defaultdict(factory, _decode_pairs(node, decoder))


JSON_EXCEPTION_CODECS = {
    float: field_codec("float", "value", repr, float),
    str: field_codec(
        "str",
        "utf-8",
        lambda value: value.encode("utf-8", "surrogatepass").hex(),
        lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    ),
    int: field_codec("int", "hex", hex, lambda text: int(text, 16)),
}
"""The codecs of values of JSON's own types that JSON does not have: nan, lone surrogates, huge integers."""

BUILTIN_CODECS = {
    complex: Codec(
        "complex",
        lambda value, encoder: {"real": encoder.encode(value.real), "imag": encoder.encode(value.imag)},
        lambda node, decoder: complex(decoder.decode(node["real"]), decoder.decode(node["imag"])),
    ),
    bytes: field_codec("bytes", "base64", _encode_base64, b64decode),
    bytearray: field_codec("bytearray", "base64", _encode_base64, lambda text: bytearray(b64decode(text))),
    Decimal: field_codec("decimal", "value", str, Decimal),
    Fraction: _list_codec("fraction", "of", Fraction.as_integer_ratio, Fraction),
    UUID: field_codec("uuid", "value", str, UUID),
    datetime: wall_clock_codec("datetime", datetime),
    date: field_codec("date", "iso", date.isoformat, date.fromisoformat),
    time: wall_clock_codec("time", time),
    timedelta: field_codec("timedelta", "days_seconds_microseconds", _timedelta_fields, lambda held: timedelta(*held)),
    timezone: Codec("timezone", _encode_timezone, _decode_timezone),
    ZoneInfo: Codec("zoneinfo", _encode_zoneinfo, lambda node, _: ZoneInfo(node["key"])),
    tuple: _collection_codec("tuple", tuple, _encode_items),
    set: _collection_codec("set", set, _encode_set),
    frozenset: _collection_codec("frozenset", frozenset, _encode_set),
    deque: Codec(
        "deque",
        lambda value, encoder: {"maxlen": value.maxlen, **_encode_items(value, encoder)},
        lambda node, decoder: deque(decoder.decode(node["items"], decoder.declared), node["maxlen"]),
    ),
    dict: _mapping_codec("dict", dict),
    OrderedDict: _mapping_codec("ordereddict", OrderedDict),
    Counter: _mapping_codec("counter", Counter),
    defaultdict: Codec("defaultdict", _encode_defaultdict, _decode_defaultdict),
    range: _list_codec("range", "bounds", _bounds, range),
    slice: _list_codec("slice", "bounds", _bounds, slice),
}
