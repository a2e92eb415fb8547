"""Go through a saved tree, and find the values in it that lie in files of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import count
from typing import Any

from airflow_zen.materializers.catalogue import SHOWN
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.tree.codecs import codec_of
from airflow_zen.materializers.tree.parts import better_as

MOST_VISITED = 10_000
"""How many values are looked at: a list of millions of numbers is not gone through to find the frame at its end."""

_ATOMS = frozenset({type(None), bool, int, float, str})

Children = Iterator[tuple[str, Any]]
Part = Mapping[str, str]


@dataclass(frozen=True)
class Member:
    """A value inside another one: its place there, and how it was stored; `shape` is "" where that is not known."""

    place: tuple[str, ...]
    value: Any
    encoding: str
    shape: str


class Walk:
    """Go through `value` in the order in which its `parts` were saved, so that each is found beside what was said of it."""

    def __init__(self, registry: MaterializerRegistry, parts: Iterator[Part]) -> None:
        self._registry, self._parts = registry, parts
        self._visited = count()

    def members(self, value: Any, place: tuple[str, ...] = (), alone: bool = True) -> Iterator[Member]:
        """Yield the members of a value; not `alone` those of one that is shown as a whole, which are passed over."""
        for name, child in _children(value):
            if next(self._visited) >= MOST_VISITED:
                return
            if type(child) in _ATOMS:
                continue
            here = (*place, name)
            if self._is_part(child):
                part = next(self._parts, None)
                if part is not None and alone:
                    yield Member(here, child, part["encoding"], part.get("shape", ""))
                continue
            shown = alone and type_name(type(child)) in SHOWN
            if shown:
                yield Member(here, child, "python.json@1", "")
            yield from self.members(child, here, alone and not shown)

    def _is_part(self, value: Any) -> bool:
        """Decide as the encoder did."""
        if better_as(value):
            return True
        if type(value) in (list, dict) or codec_of(value) is not None:
            return False
        return self._registry.for_type(type(value)).encoding != "python.json@1"


def _children(value: Any) -> Children:
    """Give what a container or a record holds, with the name that each has in it."""
    if isinstance(value, dict):
        yield from _entries(value)
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


def _entries(value: dict[Any, Any]) -> Children:
    for key, child in value.items():
        if type(key) is not str:
            yield "key", key
        yield str(key), child
