"""Go through a saved tree, and find the values in it that lie in files of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import count
from typing import Any

from airflow_zen.materializers.catalogue import PREVIEW_ONLY
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.tree.codecs import codec_for_value
from airflow_zen.materializers.tree.parts import preferred_encoding

MAX_VISITED = 10_000
"""How many values are looked at: a list of millions of numbers is not gone through to find the frame at its end."""

_SCALAR_TYPES = frozenset({type(None), bool, int, float, str})

NamedChildren = Iterator[tuple[str, Any]]
PartSummary = Mapping[str, str]


@dataclass(frozen=True)
class NestedMember:
    """A value inside another one: its place there, and how it was stored; `shape` is "" where that is not known."""

    path: tuple[str, ...]
    value: Any
    encoding: str
    shape: str


class NestedWalker:
    """Go through `value` in the order in which its `parts` were saved, so that each is found beside what was said of it."""

    def __init__(self, registry: MaterializerRegistry, parts: Iterator[PartSummary]) -> None:
        self._registry, self._parts = registry, parts
        self._visited = count()

    def members(self, value: Any, path: tuple[str, ...] = (), visible: bool = True) -> Iterator[NestedMember]:
        """Yield the members of a value; not `visible` those of one that is shown as a whole, which are passed over."""
        for name, child in _named_children(value):
            if next(self._visited) >= MAX_VISITED:
                return
            if type(child) in _SCALAR_TYPES:
                continue
            child_path = (*path, name)
            if self._is_nested_value(child):
                part = next(self._parts, None)
                if part is not None and visible:
                    yield NestedMember(child_path, child, part["encoding"], part.get("shape", ""))
                continue
            is_previewed = visible and type_name(type(child)) in PREVIEW_ONLY
            if is_previewed:
                yield NestedMember(child_path, child, "python.json@1", "")
            yield from self.members(child, child_path, visible and not is_previewed)

    def _is_nested_value(self, value: Any) -> bool:
        """Decide as the encoder did."""
        if preferred_encoding(value):
            return True
        if type(value) in (list, dict) or codec_for_value(value) is not None:
            return False
        return self._registry.for_type(type(value)).encoding != "python.json@1"


def _named_children(value: Any) -> NamedChildren:
    """Give what a container or a record holds, with the name that each has in it."""
    if isinstance(value, dict):
        yield from _mapping_children(value)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, list | tuple | deque):
        yield from ((str(at), child) for at, child in enumerate(value))
    elif is_dataclass(value):
        names = (field.name for field in fields(value))
        yield from ((name, getattr(value, name)) for name in names if hasattr(value, name))
    elif hasattr(type(value), "__pydantic_fields__"):
        names = type(value).__pydantic_fields__
        yield from ((name, child) for name, child in value.__dict__.items() if name in names)
        yield from (value.__pydantic_extra__ or {}).items()
        yield from (value.__pydantic_private__ or {}).items()


def _mapping_children(value: dict[Any, Any]) -> NamedChildren:
    for key, child in value.items():
        if type(key) is not str:
            yield "key", key
        yield str(key), child
