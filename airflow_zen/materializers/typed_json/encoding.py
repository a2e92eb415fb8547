"""Encode values as typed JSON and decode them, including the user's own record types."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_origin

from airflow_zen.errors import ArtifactRefused, MaterializerNotFound, SaveRefused
from airflow_zen.materializers.annotations import element_type, strip_annotation
from airflow_zen.materializers.typed_json.codec import BUILTIN_CODECS, JSON_EXCEPTION_CODECS, TAG, Codec, Json
from airflow_zen.materializers.typed_json.nested import InlineOnly, NestedValues, preferred_encoding
from airflow_zen.type_names import base_names, class_reference, resolve_class, type_name

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_DEPTH = 100
_CANONICAL_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_MAX_DECIMAL_BITS = 4096
_PACKAGE = "airflow_zen.materializers"
# Modules with the codecs of a library's values, imported when such a value appears.
_MODULE_OF_LIBRARY = {
    "numpy": f"{_PACKAGE}.numpy.scalars",
    "pandas": f"{_PACKAGE}.pandas.scalars",
    "pendulum": f"{_PACKAGE}.typed_json.pendulum",
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
        raise encoder.unsupported_error(value, f"it is a {builtin.__qualname__} beside its fields. Make that a field.")
    extra = sorted(name for name in _attribute_names(value) - set(names) if not _is_cached_property(cls, name))
    if extra == ["__orig_class__"]:
        remedy = f"it remembers its type arguments, which are no field. Make it as {cls.__qualname__}(…)."
        raise encoder.unsupported_error(value, remedy)
    if extra:
        remedy = f"its attribute(s) {', '.join(extra)} are no fields. Declare them as fields."
        raise encoder.unsupported_error(value, remedy)
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
_PYTHON_CODECS = (
    *(*JSON_EXCEPTION_CODECS.values(), *BUILTIN_CODECS.values()),
    *(_ENUM, _DATACLASS, _NAMEDTUPLE, _PYDANTIC),
)


class Encoder:
    """Write a value as JSON from which exactly its types come back; raise `SaveRefused` if that is not possible.

    A value that is not JSON (a DataFrame inside a dict) is saved by `parts`.
    """

    def __init__(self, parts: NestedValues) -> None:
        self._parts = parts
        self._ancestors: dict[int, type] = {}

    def encode(self, value: Any) -> Json:
        """Write one value, and all below it; raises `SaveRefused`."""
        kind = type(value)
        is_json = _IS_JSON_SCALAR.get(kind)
        if is_json is not None:
            codec = None if is_json(value) else JSON_EXCEPTION_CODECS[kind]
            return {TAG: codec.tag, **codec.encode(value, self)} if codec else value
        if id(value) in self._ancestors:
            raise SaveRefused(
                f"A {kind.__qualname__} contains itself ({self._ancestor_path()}), which has no end as JSON. Leave "
                "that reference out."
            )
        if len(self._ancestors) >= MAX_DEPTH:
            raise SaveRefused(f"A value is nested more than {MAX_DEPTH} levels deep. Flatten it.")
        self._ancestors[id(value)] = kind
        try:
            return self._encode_composite(value, kind)
        finally:
            del self._ancestors[id(value)]

    def encode_unordered(self, values: Any) -> list[Json]:
        """Write the elements of a set in the order of their JSON text, which does not depend on hash seeds."""
        nested = Encoder(InlineOnly(self._parts.registry, "a set"))
        nested._ancestors = self._ancestors
        return sorted((nested.encode(value) for value in values), key=canonical_json)

    def unsupported_error(self, value: Any, remedy: str) -> SaveRefused:
        """Return the error for a value that would not come back exactly; `remedy` is a full sentence."""
        return SaveRefused(
            f"A value of type {type_name(type(value))} ({self._ancestor_path()}) is not stored: {remedy}"
        )

    def _encode_composite(self, value: Any, kind: type) -> Json:
        if self._parts.prefers_files and preferred_encoding(value):
            return {TAG: "part", **self._parts.save(value)}
        if kind is list:
            return list(value) if _is_plain_json(value) else [self.encode(item) for item in value]
        if kind is dict and TAG not in value and all(type(key) is str and is_utf8(key) for key in value):
            return {key: self.encode(item) for key, item in value.items()}
        codec = codec_for_value(value)
        if codec is None and self._parts.registry.for_type(kind).encoding != "python.json@1":
            return {TAG: "part", **self._parts.save(value)}
        codec = codec or record_codec(kind)
        if codec is None:
            raise self.unsupported_error(
                value,
                "only its base type is known, and coming back as that would change it. Convert it, register a "
                "materializer for it, or set [zen] allow_pickle = True.",
            )
        return {TAG: codec.tag, **codec.encode(value, self)}

    def _ancestor_path(self) -> str:
        return "in " + " → ".join(kind.__qualname__ for kind in self._ancestors.values())


class Decoder:
    """Read what `Encoder` wrote.

    `load_part` returns the value behind a reference to files beside the JSON, as the type that the consumer declared for
    it. `wanted` is the type that the consumer declared for the whole; classes are looked up in it first. While a codec
    runs, `declared` is the type that the consumer declared for the value it reads.
    """

    def __init__(self, load_part: Callable[[Mapping[str, Json], Any], Any], wanted: Any = None) -> None:
        self.declared: Any = None
        self._load_part = load_part
        self._wanted = wanted

    def decode(self, node: Json, declared: Any = None) -> Any:
        """Read one node, and all below it, as the type that the consumer `declared` for it."""
        if isinstance(node, list):
            return self._decode_items(node, declared)
        if not isinstance(node, dict):
            return node
        tag = node.get(TAG)
        if tag is None:
            inner = element_type(declared)
            return {key: self.decode(item, inner) for key, item in node.items()}
        if tag == "part":
            return self._load_part(node, strip_annotation(declared))
        outer, self.declared = self.declared, declared
        try:
            return _codec_for_tag(tag).decode(node, self)
        finally:
            self.declared = outer

    def resolve_class(self, reference: str, kind: str, is_kind: Callable[[type], bool]) -> type:
        """Return a class after a check that it is a `kind`, so that an artifact cannot name just any callable."""
        cls = resolve_class(reference, self._wanted)
        if not is_kind(cls):
            raise ArtifactRefused(f"{reference} is not a {kind} here, and the artifact says it is one.")
        return cls

    def _decode_items(self, nodes: list[Json], declared: Any) -> list[Any]:
        if declared is None:
            return list(map(self.decode, nodes))
        if get_origin(strip_annotation(declared)) is tuple:
            return [self.decode(node, element_type(declared, at)) for at, node in enumerate(nodes)]
        inner = element_type(declared)
        return [self.decode(node, inner) for node in nodes]


def canonical_json(node: Json) -> str:
    """Write JSON as the one text that this encoding uses for it."""
    return _CANONICAL_ENCODER.encode(node)


def codec_for_value(value: Any) -> Codec | None:
    """Return the codec of a built-in value or a library's scalar; None for every other value."""
    if codec := BUILTIN_CODECS.get(type(value)):
        return codec
    libraries = (base.__module__.partition(".")[0] for base in type(value).__mro__)
    module = next((_MODULE_OF_LIBRARY[name] for name in libraries if name in _MODULE_OF_LIBRARY), None)
    found: Codec | None = import_module(module).library_codec(value) if module else None
    return found


@cache
def _codec_for_tag(tag: str) -> Codec:
    """Return the codec of a tag, such as `tuple` or `numpy.scalar`; raises `MaterializerNotFound`."""
    module = _MODULE_OF_LIBRARY.get(tag.partition(".")[0])
    codec = next((it for it in (import_module(module).CODECS if module else _PYTHON_CODECS) if it.tag == tag), None)
    if codec is None:
        raise MaterializerNotFound(
            f"python.json@1 has a value tagged {tag!r}, which this airflow_zen does not read. Install a newer one."
        )
    return codec


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode a text; it cannot encode lone surrogates."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


_IS_JSON_SCALAR: dict[type, Callable[[Any], bool]] = {
    type(None): lambda _: True,
    bool: lambda _: True,
    int: lambda value: value.bit_length() <= _MAX_DECIMAL_BITS,
    float: math.isfinite,
    str: is_utf8,
}


def _is_plain_json(values: list[Any]) -> bool:
    """Whether a long list is JSON as it is; determined in a few passes at C speed."""
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return not kinds
    kind = kinds.pop()
    if kind is str:
        return all(map(str.isascii, values))
    if kind is float:
        return all(map(math.isfinite, values))
    return kind is bool or (kind is int and min(values) >= -(1 << 63) and max(values) < 1 << 63)
