"""Previews of containers and records: the members that are stored as files."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import count
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.catalog import PREVIEW_ONLY
from airflow_zen.materializers.previews.html import PREVIEW_HTML, hidden_note, html_page
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.materializers.typed_json.encoding import codec_for_value, preferred_encoding
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

MAX_MEMBERS = 8
"""Maximum number of members with a preview."""
MAX_MEMBER_DEPTH = 4
"""Maximum number of nested containers around a member."""
MAX_VISITED = 10_000
"""Maximum number of visited values: a list of millions of numbers is not searched for a frame at its end."""
_MAX_NAME_LENGTH = 60
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9_.-]+")
_SCALAR_TYPES = frozenset({type(None), bool, int, float, str})

PreviewFiles = Mapping[str, bytes | str]


class MembersPreview(Materializer):
    """Make previews of containers and records, which `TypedJsonMaterializer` stores."""

    def preview(self, value: Any, summary: Mapping[str, Any]) -> PreviewFiles:
        """Show the first eight members that have previews, in files named after their paths; nothing if none has."""
        parts, hidden = iter(summary.get("parts", ())), 0
        files, rows = dict[str, bytes | str](), list[tuple[str, str, str, str]]()
        for member in NestedWalker(self.registry, parts).members(value):
            if len(rows) == MAX_MEMBERS or len(member.path) > MAX_MEMBER_DEPTH:
                hidden += 1
                continue
            made, error = self._preview_member(member)
            stem = _file_stem(member.path, {PREVIEW_HTML, *files})
            named = {f"{stem}.{name.removeprefix('preview.')}": content for name, content in made.items()}
            if not named and not error:
                hidden += 1
                continue
            files |= named
            kind, shown = type_name(type(member.value)), error or ", ".join(named)
            rows.append((".".join(member.path), kind, member.shape, shown))
        hidden += sum(1 for _ in parts)
        if not rows:
            return {}
        sections = [plain_table(["member", "type", "shape", "preview"], rows), *hidden_note(hidden, "member")]
        return {PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), sections), **files}

    def _preview_member(self, member: NestedMember) -> tuple[PreviewFiles, str]:
        """Return a member's own preview, or the reason why it failed: the others are shown all the same."""
        summary = {"shape": member.shape} if member.shape else {}
        try:
            return self.registry.preview(member.value, member.encoding, summary), ""
        except BaseException as error:  # noqa: BLE001 - a panic of polars is not even an Exception
            return {}, f"none: {error}"


def _file_stem(path: tuple[str, ...], taken: set[str]) -> str:
    """Return a member's path as the start of a file name; names that are equal, ignoring case, are numbered."""
    stem = _UNSAFE_CHARACTERS.sub("-", ".".join(path)).strip(".-")[:_MAX_NAME_LENGTH] or "member"
    known = {PurePath(name).stem.lower() for name in taken}
    stems = (f"{stem}-{number}" if number > 1 else stem for number in count(1))
    return next(found for found in stems if found.lower() not in known)


@dataclass(frozen=True)
class NestedMember:
    """A value inside another one: its path there, and how it was stored; `shape` is "" if it is not known."""

    path: tuple[str, ...]
    value: Any
    encoding: str
    shape: str


class NestedWalker:
    """Visit the members of a value in the order in which its `parts` were saved, so that each meets its own summary."""

    def __init__(self, registry: MaterializerRegistry, parts: Iterator[Mapping[str, str]]) -> None:
        self._registry, self._parts = registry, parts
        self._visited = count()

    def members(self, value: Any, path: tuple[str, ...] = (), visible: bool = True) -> Iterator[NestedMember]:
        """Yield the members of a value; not `visible`: skip the parts of a value that is shown as a whole."""
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
        """Whether `Encoder` stored a value as a file."""
        if preferred_encoding(value):
            return True
        if type(value) in (list, dict) or codec_for_value(value) is not None:
            return False
        return self._registry.for_type(type(value)).encoding != "python.json@1"


def _named_children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container or a record holds, each with its name there, in the order in which `Encoder` writes it."""
    if isinstance(value, dict):
        for key, child in value.items():
            if type(key) is not str:
                yield "key", key
            yield str(key), child
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
