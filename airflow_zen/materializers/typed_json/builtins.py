"""Codecs of the containers that JSON does not have."""

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

from airflow_zen.materializers.annotations import element_type
from airflow_zen.materializers.typed_json.codec import Codec, Json
from airflow_zen.type_names import class_reference

if TYPE_CHECKING:
    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder


def _encode_items(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    return {"items": [encoder.encode(item) for item in value]}


def _encode_set(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    return {"items": encoder.encode_unordered(value)}


def _encode_pairs(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    if getattr(value, "__dict__", None):
        raise encoder.unsupported_error(value, "it carries attributes of its own. Keep them in a dataclass beside it.")
    return {"pairs": [[encoder.encode(key), encoder.encode(item)] for key, item in value.items()]}


def _decode_pairs(node: Mapping[str, Json], decoder: Decoder) -> list[tuple[Any, Any]]:
    inner = element_type(decoder.declared)
    return [(decoder.decode(key), decoder.decode(item, inner)) for key, item in node["pairs"]]


def _encode_defaultdict(value: defaultdict[Any, Any], encoder: Encoder) -> Mapping[str, Json]:
    factory = value.default_factory
    if factory is not None and not isinstance(factory, type):
        raise encoder.unsupported_error(
            value, f"its factory {factory!r} is no class that could be found again. Convert it to dict."
        )
    return {"factory": class_reference(factory) if factory else None, **_encode_pairs(value, encoder)}


def _decode_defaultdict(node: Mapping[str, Json], decoder: Decoder) -> defaultdict[Any, Any]:
    factory = decoder.resolve_class(node["factory"], "class", lambda _: True) if node["factory"] else None
    return defaultdict(factory, _decode_pairs(node, decoder))


def _encode_deque(value: deque[Any], encoder: Encoder) -> Mapping[str, Json]:
    return {"maxlen": value.maxlen, **_encode_items(value, encoder)}


def _decode_deque(node: Mapping[str, Json], decoder: Decoder) -> deque[Any]:
    return deque(decoder.decode(node["items"], decoder.declared), node["maxlen"])


def _encode_bounds(value: range | slice, encoder: Encoder) -> Mapping[str, Json]:
    return {"bounds": [encoder.encode(bound) for bound in (value.start, value.stop, value.step)]}


def _collection_codec(tag: str, build: Callable[[list[Any]], Any], encode: Callable[[Any, Encoder], Any]) -> Codec:
    return Codec(tag, encode, lambda node, decoder: build(decoder.decode(node["items"], decoder.declared)))


def _mapping_codec(tag: str, build: Callable[[list[tuple[Any, Any]]], Any]) -> Codec:
    return Codec(tag, _encode_pairs, lambda node, decoder: build(_decode_pairs(node, decoder)))


def _build_counter(pairs: list[tuple[Any, Any]]) -> Counter[Any]:
    return Counter(dict(pairs))


CONTAINER_CODECS: dict[type, Codec] = {
    tuple: _collection_codec("tuple", tuple, _encode_items),
    set: _collection_codec("set", set, _encode_set),
    frozenset: _collection_codec("frozenset", frozenset, _encode_set),
    dict: _mapping_codec("dict", dict),
    OrderedDict: _mapping_codec("ordereddict", OrderedDict),
    Counter: _mapping_codec("counter", _build_counter),
    defaultdict: Codec("defaultdict", _encode_defaultdict, _decode_defaultdict),
    deque: Codec("deque", _encode_deque, _decode_deque),
    range: Codec("range", _encode_bounds, lambda node, decoder: range(*decoder.decode(node["bounds"]))),
    slice: Codec("slice", _encode_bounds, lambda node, decoder: slice(*decoder.decode(node["bounds"]))),
}


JSON_EXCEPTION_CODECS = (
    Codec("float", lambda value, _: {"value": repr(value)}, lambda node, _: float(node["value"])),
    Codec(
        "str",
        lambda value, _: {"utf-8": value.encode("utf-8", "surrogatepass").hex()},
        lambda node, _: bytes.fromhex(node["utf-8"]).decode("utf-8", "surrogatepass"),
    ),
    Codec("int", lambda value, _: {"hex": hex(value)}, lambda node, _: int(node["hex"], 16)),
)
"""Tags of natural JSON types, for the values that are the exception: nan, lone surrogates, huge integers."""

SCALAR_CODECS = {
    complex: Codec(
        "complex",
        lambda value, encoder: {"real": encoder.encode(value.real), "imag": encoder.encode(value.imag)},
        lambda node, decoder: complex(decoder.decode(node["real"]), decoder.decode(node["imag"])),
    ),
    bytes: Codec(
        "bytes",
        lambda value, _: {"base64": b64encode(value).decode()},
        lambda node, _: b64decode(node["base64"]),
    ),
    bytearray: Codec(
        "bytearray",
        lambda value, _: {"base64": b64encode(value).decode()},
        lambda node, _: bytearray(b64decode(node["base64"])),
    ),
    Decimal: Codec("decimal", lambda value, _: {"value": str(value)}, lambda node, _: Decimal(node["value"])),
    Fraction: Codec(
        "fraction",
        lambda value, encoder: {"of": [encoder.encode(value.numerator), encoder.encode(value.denominator)]},
        lambda node, decoder: Fraction(*decoder.decode(node["of"])),
    ),
    UUID: Codec("uuid", lambda value, _: {"value": str(value)}, lambda node, _: UUID(node["value"])),
}


def encode_wall_clock(value: datetime | time, encoder: Encoder) -> Mapping[str, Json]:
    """Write a datetime or time as wall clock, zone and fold."""
    fields: dict[str, Json] = {"iso": value.replace(tzinfo=None, fold=0).isoformat()}
    if value.tzinfo is not None:
        fields["tz"] = encoder.encode(value.tzinfo)
    if value.fold:
        fields["fold"] = value.fold
    return fields


def _decode_datetime_node(node: Mapping[str, Json], decoder: Decoder) -> datetime:
    tz = decoder.decode(node.get("tz"))
    return datetime.fromisoformat(node["iso"]).replace(tzinfo=tz, fold=node.get("fold", 0))


def _decode_time(node: Mapping[str, Json], decoder: Decoder) -> time:
    tz = decoder.decode(node.get("tz"))
    return time.fromisoformat(node["iso"]).replace(tzinfo=tz, fold=node.get("fold", 0))


def _encode_timezone(value: timezone, encoder: Encoder) -> Mapping[str, Json]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    fields: dict[str, Json] = {"offset": _timedelta_fields(offset)}
    return {**fields, "name": encoder.encode(name[0])} if name else fields


def _decode_timezone(node: Mapping[str, Json], decoder: Decoder) -> timezone:
    offset = timedelta(*node["offset"])
    return timezone(offset, decoder.decode(node["name"])) if "name" in node else timezone(offset)


def _encode_zoneinfo(value: ZoneInfo, encoder: Encoder) -> Mapping[str, Json]:
    if value.key is None:
        raise encoder.unsupported_error(
            value, "it was read from a file and has no key to find it by. Use ZoneInfo(key)."
        )
    return {"key": value.key}


def _timedelta_fields(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


TIME_CODECS = {
    datetime: Codec("datetime", encode_wall_clock, _decode_datetime_node),
    date: Codec(
        "date",
        lambda value, _: {"iso": value.isoformat()},
        lambda node, _: date.fromisoformat(node["iso"]),
    ),
    time: Codec("time", encode_wall_clock, _decode_time),
    timedelta: Codec(
        "timedelta",
        lambda value, _: {"days_seconds_microseconds": _timedelta_fields(value)},
        lambda node, _: timedelta(*node["days_seconds_microseconds"]),
    ),
    timezone: Codec("timezone", _encode_timezone, _decode_timezone),
    ZoneInfo: Codec("zoneinfo", _encode_zoneinfo, lambda node, _: ZoneInfo(node["key"])),
}
