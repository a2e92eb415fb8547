"""Codecs of the user's own record types: enums, dataclasses, namedtuples, pydantic models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.typed_json.codec import Codec, Json
from airflow_zen.type_names import base_names, class_reference, type_name

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder


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
    reference = {"class": class_reference(type(value))}
    if isinstance(value, Flag):
        return {**reference, "bits": encoder.encode(int(value.value))}
    return {**reference, "name": value.name}


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
        raise encoder.unsupported_error(
            value, f"it remembers its type arguments, which are no field. Make it as {cls.__qualname__}(…)."
        )
    if extra:
        raise encoder.unsupported_error(
            value, f"its attribute(s) {', '.join(extra)} are no fields. Declare them as fields."
        )
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
    slots = {name for base in type(value).__mro__ for name in _slot_names(base) if hasattr(value, name)}
    return (slots | set(getattr(value, "__dict__", ()))) - {"__dict__", "__weakref__"}


def _slot_names(cls: type) -> tuple[str, ...]:
    found = vars(cls).get("__slots__", ())
    return (found,) if isinstance(found, str) else tuple(found)


def _is_cached_property(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), cached_property)


_ENUM = Codec("enum", _encode_enum, _decode_enum)
_DATACLASS = Codec("dataclass", _encode_dataclass, _decode_dataclass)
_NAMEDTUPLE = Codec("namedtuple", _encode_namedtuple, _decode_namedtuple)
_PYDANTIC = Codec("pydantic", _encode_pydantic, _decode_pydantic)
RECORD_CODECS = (_ENUM, _DATACLASS, _NAMEDTUPLE, _PYDANTIC)
