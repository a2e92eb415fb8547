"""The state of a pydantic model, complete: fields, which of them were set, extras, private attributes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel

from airflow_zen.materializers.classes import class_reference
from airflow_zen.materializers.tree.codec import Json
from airflow_zen.materializers.tree.records import check_known_fields

if TYPE_CHECKING:
    from airflow_zen.materializers.tree.decoder import Decoder
    from airflow_zen.materializers.tree.encoder import Encoder


def encode_pydantic_model(value: BaseModel, encoder: Encoder) -> Mapping[str, Json]:
    """Write a model's state, not its `model_dump`: validators and serializers do not run."""
    state: Mapping[str, Any] = _pydantic_base(type(value)).__getstate__(value)
    held = {name: item for name, item in state["__dict__"].items() if not _is_cached_attribute(type(value), name)}
    return {
        "class": class_reference(type(value)),
        "fields": {name: encoder.encode(item) for name, item in held.items()},
        "set": sorted(state["__pydantic_fields_set__"]),
        "extra": encoder.encode(state.get("__pydantic_extra__")),
        "private": encoder.encode(state.get("__pydantic_private__")),
    }


def decode_pydantic_model(cls: type[BaseModel], node: Mapping[str, Json], decoder: Decoder) -> BaseModel:
    """Build a model from its saved state, without validating it again."""
    check_known_fields(cls, node["fields"], set(cls.model_fields))
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
    """Give pydantic's own class, so that no override of the user's runs."""
    return RootModel if issubclass(cls, RootModel) else BaseModel


def _is_cached_attribute(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), cached_property)
