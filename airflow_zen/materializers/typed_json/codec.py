"""The record `Codec`, and the codecs of Python's scalars, times and containers, and of the user's records."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.annotations import element_type
from airflow_zen.materializers.catalog import alternative
from airflow_zen.type_names import base_names, class_reference, type_name

if TYPE_CHECKING:
    from pydantic import BaseModel

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


def path_codec(tag: str, classes: Mapping[str, type[PurePath]]) -> Codec:
    """Return the codec of paths; `classes` are those that are read, by name, any other is read as `pathlib.Path`."""
    return Codec(
        tag,
        lambda value, _: {"class": type(value).__name__, "path": str(value)},
        lambda node, _: classes.get(node["class"], Path)(node["path"]),
    )


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


def record_codec(cls: type) -> Codec | None:
    """Return the codec of a record type; None for any other type."""
    if issubclass(cls, Enum):
        return _ENUM
    if is_dataclass(cls):
        return _DATACLASS
    if _is_namedtuple(cls):
        return _NAMEDTUPLE
    return _PYDANTIC if _is_pydantic(cls) else None


def _encode_enum(value: Enum, encoder: Encoder) -> Mapping[str, Json]:
    member = {"bits": encoder.encode(int(value.value))} if isinstance(value, Flag) else {"name": value.name}
    return {"class": class_reference(type(value)), **member}


def _decode_enum(node: Mapping[str, Json], decoder: Decoder) -> Enum:
    cls = decoder.resolve_class(node["class"], "Enum", lambda found: issubclass(found, Enum))
    try:
        found: Enum = cls(decoder.decode(node["bits"])) if "bits" in node else cls[node["name"]]  # type: ignore[index]
    except (KeyError, ValueError) as error:
        member = node.get("name", node.get("bits"))
        raise ArtifactRefused(f"{node['class']} no longer has the saved member {member!r}. Save it again.") from error
    return found


def _encode_dataclass(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    cls = type(value)
    names = [field.name for field in fields(cls)]
    builtin = next((base for base in cls.__mro__[1:-1] if base.__module__ == "builtins"), None)
    if builtin is not None:
        remedy = f"it is a {builtin.__qualname__} beside its fields. Make that a field."
        raise encoder.unsupported_error(value, alternative(base_names(cls)) or remedy)
    extra = sorted(name for name in _attribute_names(value) - set(names) if not _is_cached_property(cls, name))
    if extra == ["__orig_class__"]:
        remedy = f"it remembers its type arguments, which are no field. Make it as {cls.__qualname__}(…)."
        raise encoder.unsupported_error(value, remedy)
    if extra:
        remedy = f"its attribute(s) {', '.join(extra)} are no fields. Declare them as fields."
        raise encoder.unsupported_error(value, alternative(base_names(cls)) or remedy)
    held = {name: encoder.encode(getattr(value, name)) for name in names if hasattr(value, name)}
    return {"class": class_reference(cls), "fields": held}


def _decode_dataclass(node: Mapping[str, Json], decoder: Decoder) -> Any:
    cls = decoder.resolve_class(node["class"], "dataclass", is_dataclass)
    _check_known_fields(cls, node["fields"], {field.name for field in fields(cls)})
    value: Any = object.__new__(cls)
    for name, item in node["fields"].items():
        object.__setattr__(value, name, decoder.decode(item))
    return value


def _encode_namedtuple(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    if getattr(value, "__dict__", None):
        raise encoder.unsupported_error(value, "it carries attributes beside its fields. Use a dataclass.")
    held = {name: encoder.encode(item) for name, item in zip(value._fields, value, strict=True)}
    return {"class": class_reference(type(value)), "fields": held}


def _decode_namedtuple(node: Mapping[str, Json], decoder: Decoder) -> Any:
    cls = decoder.resolve_class(node["class"], "namedtuple", _is_namedtuple)
    if tuple(node["fields"]) != cls._fields:  # type: ignore[attr-defined]
        raise ArtifactRefused(f"{node['class']} no longer has the saved fields {list(node['fields'])}. Save it again.")
    return tuple.__new__(cls, [decoder.decode(item) for item in node["fields"].values()])


def _encode_pydantic(value: BaseModel, encoder: Encoder) -> Mapping[str, Json]:
    """Write a model's state, not its `model_dump`: validators and serializers do not run."""
    cls = type(value)
    state: Mapping[str, Any] = _pydantic_base(cls).__getstate__(value)
    held = {name: item for name, item in state["__dict__"].items() if not _is_cached_property(cls, name)}
    return {
        "class": class_reference(cls),
        "fields": {name: encoder.encode(item) for name, item in held.items()},
        "set": sorted(state["__pydantic_fields_set__"]),
        "extra": encoder.encode(state.get("__pydantic_extra__")),
        "private": encoder.encode(state.get("__pydantic_private__")),
    }


def _decode_pydantic(node: Mapping[str, Json], decoder: Decoder) -> BaseModel:
    """Build a model from its saved state, without validating it again."""
    cls: type[BaseModel] = decoder.resolve_class(node["class"], "pydantic model", _is_pydantic)
    _check_known_fields(cls, node["fields"], set(cls.model_fields))
    value = cls.__new__(cls)
    state: dict[Any, Any] = {
        "__dict__": {name: decoder.decode(item) for name, item in node["fields"].items()},
        "__pydantic_fields_set__": set(node["set"]),
        "__pydantic_extra__": decoder.decode(node["extra"]),
        "__pydantic_private__": decoder.decode(node["private"]),
    }
    _pydantic_base(cls).__setstate__(value, state)
    return value


def _pydantic_base(cls: type[BaseModel]) -> Any:
    """Return pydantic's own class, so that no override of the user's runs."""
    from pydantic import BaseModel, RootModel

    return RootModel if issubclass(cls, RootModel) else BaseModel


def _check_known_fields(cls: type, saved: Mapping[str, Any], known: set[str]) -> None:
    """Raise `ArtifactRefused` for a record whose class has lost a saved field: it would come back incomplete."""
    if lost := sorted(set(saved) - known):
        raise ArtifactRefused(f"{type_name(cls)} no longer has the saved field(s) {', '.join(lost)}. Save it again.")


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple) and hasattr(cls, "_make")


def _is_pydantic(cls: type) -> bool:
    return "pydantic.main.BaseModel" in base_names(cls)


def _attribute_names(value: Any) -> set[str]:
    declared = [vars(base).get("__slots__", ()) for base in type(value).__mro__]
    slots = {name for found in declared for name in ([found] if isinstance(found, str) else found)}
    held = {name for name in slots if hasattr(value, name)}
    return (held | set(getattr(value, "__dict__", ()))) - {"__dict__", "__weakref__"}


def _is_cached_property(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), cached_property)


_ENUM = Codec("enum", _encode_enum, _decode_enum)
_DATACLASS = Codec("dataclass", _encode_dataclass, _decode_dataclass)
_NAMEDTUPLE = Codec("namedtuple", _encode_namedtuple, _decode_namedtuple)
_PYDANTIC = Codec("pydantic", _encode_pydantic, _decode_pydantic)

PYTHON_CODECS = (
    *(*JSON_EXCEPTION_CODECS.values(), *BUILTIN_CODECS.values()),
    *(_ENUM, _DATACLASS, _NAMEDTUPLE, _PYDANTIC),
)
"""All codecs of Python's own values and of records."""
