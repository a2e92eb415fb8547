"""The values inside a tree that are no JSON, and lie in files beside it."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.reader import ArtifactReader
from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.catalog import PREVIEW_ONLY
from airflow_zen.materializers.files import is_large_bytes
from airflow_zen.materializers.typed_json.codecs import codec_for_value
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.artifacts.streaming import VerifiedStream
    from airflow_zen.materializers.registry import MaterializerRegistry


class NestedValues:
    """Save values under `parts/<n>/` of an artifact, each by its own materializer.

    `saved` lists what has been saved so far, as `{"path", "encoding", "type"}`, with `shape` where there is one.
    """

    def __init__(self, registry: MaterializerRegistry, directory: Path) -> None:
        self.registry = registry
        self.saved: list[dict[str, str]] = []
        self._directory = directory

    def is_nested_type(self, cls: type) -> bool:
        """Tell whether values of a type are parts rather than JSON; raises `MaterializerNotFound`."""
        return self.registry.for_type(cls).encoding != "python.json@1"

    def is_better_nested(self, value: Any) -> bool:
        """Tell whether a value that could be JSON is better a part."""
        return bool(preferred_encoding(value))

    def save(self, value: Any) -> Mapping[str, str]:
        """Save one value, and give the reference to it; raises `SaveRefused` for a plan or a stream."""
        if not isinstance(value, self.registry.for_type(type(value)).stored_type(value)):
            raise SaveRefused(
                f"A {type_name(type(value))} inside another value is not stored, since it would come back as what it "
                f"gives. Collect it first, or return it as an output of its own."
            )
        path = f"parts/{len(self.saved)}"
        (self._directory / path).mkdir(parents=True)
        saved = self.registry.save(value, self._directory / path)
        reference = {"path": path, "encoding": saved.encoding, "type": saved.type}
        shape = {"shape": saved.summary["shape"]} if "shape" in saved.summary else {}
        self.saved.append({**reference, **shape})
        return reference


class InlineOnly(NestedValues):
    """Refuse parts in a `location` that has no files of its own, such as a set or a cell of a table."""

    def __init__(self, registry: MaterializerRegistry, location: str) -> None:
        super().__init__(registry, Path())
        self._location = location

    def is_better_nested(self, value: Any) -> bool:
        """There is no place for parts."""
        return False

    def save(self, value: Any) -> Mapping[str, str]:
        """Raise `SaveRefused`."""
        raise SaveRefused(f"A {type_name(type(value))} in {self._location} is not stored. Keep it in a list or a dict.")


def preferred_encoding(value: Any) -> str:
    """Name the encoding of what could be JSON and is better one file: large bytes, a dict of tensors; "" for all else."""
    if is_large_bytes(value):
        return "python.bytes@1"
    return "torch.state@1" if _is_state_dict(value) else ""


def _is_state_dict(value: Any) -> bool:
    """Tell whether a value is a dict of PyTorch's tensors by name, such as `module.state_dict()`."""
    if "torch" not in sys.modules or type(value) not in (dict, OrderedDict) or not value:
        return False
    return all(type(key) is str and _is_tensor(type(item)) for key, item in value.items())


def _is_tensor(cls: type) -> bool:
    return any((base.__module__, base.__qualname__) == ("torch", "Tensor") for base in cls.__mro__)


class DirectoryReader(ArtifactReader):
    """Open what lies in one directory as what an artifact of its own would be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def directory(self) -> Path:
        """Give the directory."""
        return self._directory

    def open(self, name: str) -> Path:
        """Give the path of a file."""
        return self._directory / name

    def stream(self, name: str) -> VerifiedStream | None:
        """Give nothing: no file is on its way."""
        return None

    def object_store_url(self, name: str) -> tuple[str, Mapping[str, str]] | None:
        """Give nothing: the file is opened here."""
        return None


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
