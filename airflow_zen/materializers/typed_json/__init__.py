"""Python's built-in values and the user's records as one typed JSON file; anything else beside it as parts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.annotations import View
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.catalog import TYPED_JSON_TYPES
from airflow_zen.materializers.previews.html import PREVIEW_HTML, Markup, html_page, truncation_note
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.materializers.typed_json.nested import NestedMember, NestedWalker
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry
    from airflow_zen.materializers.typed_json.codec import Json

TYPED_JSON_FILE = "value.json"

_PART_PATH = re.compile(r"parts/[0-9]+")


class TypedJsonMaterializer(Materializer):
    """Save nested built-ins, enums, dataclasses, namedtuples and pydantic models exactly.

    A value inside that is no JSON, such as a DataFrame in a dict or in a dataclass, is saved by its own
    materializer under `parts/<n>/`: the whole is still one artifact.
    """

    types = TYPED_JSON_TYPES
    encoding = "python.json@1"
    inline = True

    def for_value(self, value: Any) -> Materializer:
        """Choose itself, or who writes as one file what is better one."""
        from airflow_zen.materializers.typed_json.nested import preferred_encoding

        return self.registry.for_encoding(preferred_encoding(value) or self.encoding)

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `value.json`, and the parts it refers to.

        The summary has `shape` for containers, and `parts` as a list of `{"path", "encoding", "type", "shape"}`.
        """
        parts = write_typed_json(self, value, directory, TYPED_JSON_FILE)
        summary: dict[str, Any] = {"shape": _container_shape(value)} if _container_shape(value) else {}
        return {**summary, "parts": parts} if parts else summary

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read `value.json`; classes are looked for in `wanted` first, and parts come as it says of its elements."""
        return read_typed_json(self, directory, TYPED_JSON_FILE, wanted)


class MembersPreview(Materializer):
    """Show what lies inside containers and records; stored by `TypedJsonMaterializer`."""

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first members that have previews of their own."""
        return preview_members(self.registry, value, summary)


def write_typed_json(materializer: Materializer, value: Any, directory: Path, file_name: str) -> list[dict[str, str]]:
    """Write a value as typed JSON into `file_name`, and give the parts that were saved beside it."""
    text, parts = encode_typed_json(materializer, value, directory)
    (directory / file_name).write_text(text, encoding="utf-8")
    return parts


def read_typed_json(materializer: Materializer, directory: Path, file_name: str, wanted: Any = None) -> Any:
    """Read what `write_typed_json` wrote."""
    return decode_typed_json(materializer, (directory / file_name).read_text(encoding="utf-8"), directory, wanted)


def encode_typed_json(materializer: Materializer, value: Any, directory: Path) -> tuple[str, list[dict[str, str]]]:
    """Give the typed JSON of a value, and the parts that were saved under `directory` on the way."""
    from airflow_zen.materializers.typed_json.encoding import Encoder, canonical_json
    from airflow_zen.materializers.typed_json.nested import NestedValues

    parts = NestedValues(materializer.registry, directory)
    return canonical_json(Encoder(parts).encode(value)), parts.saved


def decode_typed_json(materializer: Materializer, text: str, directory: Path | None, wanted: Any = None) -> Any:
    """Give the value of a typed JSON text whose parts lie under `directory`; None where there are none."""
    node = json.loads(text)
    if '"$"' not in text:
        return node
    from airflow_zen.materializers.typed_json.encoding import Decoder
    from airflow_zen.materializers.typed_json.nested import DirectoryReader

    def load_part(part: Mapping[str, Json], declared: Any) -> Any:
        if not _PART_PATH.fullmatch(part["path"]):
            raise ArtifactRefused(f"A part lies at parts/<n> inside its artifact, got {part['path']!r}.")
        if directory is None:
            raise ArtifactRefused(f"An artifact of one file names the part {part['path']!r} beside it.")
        path, encoding, view = directory / part["path"], part["encoding"], View.of(declared)
        if materializer.registry.is_partial_view(encoding, view):
            return materializer.registry.load_view(DirectoryReader(path), encoding, view)
        return materializer.registry.load(path, encoding, declared)

    return Decoder(load_part, wanted).decode(node, wanted)


def _container_shape(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"{len(value)} {'item' if len(value) == 1 else 'items'}"
    return ""


MAX_MEMBERS = 8
"""Of how many members previews are made."""

MAX_MEMBER_DEPTH = 4
"""How many containers a member may lie in, one inside the other."""

_MAX_NAME_LENGTH = 60
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9_.-]+")

PreviewFiles = Mapping[str, bytes | str]
MemberRow = tuple[str, str, str, str]


def preview_members(registry: MaterializerRegistry, value: Any, summary: Mapping[str, Any]) -> PreviewFiles:
    """Show the first eight members that have previews, in files named after their places; nothing where none has."""
    parts = iter(summary.get("parts", ()))
    files: dict[str, bytes | str] = {}
    rows: list[MemberRow] = []
    left = 0
    for member in NestedWalker(registry, parts).members(value):
        if len(rows) == MAX_MEMBERS or len(member.path) > MAX_MEMBER_DEPTH:
            left += 1
            continue
        shown, said = _preview_member(registry, member)
        stem = _file_stem(member.path, {PREVIEW_HTML, *files})
        named = {_member_file_name(stem, name): content for name, content in shown.items()}
        if named or said:
            files |= named
            rows.append((".".join(member.path), type_name(type(member.value)), member.shape, said or ", ".join(named)))
        else:
            left += 1
    left += sum(1 for _ in parts)
    if not rows:
        return {}
    title = type(value).__qualname__
    return {PREVIEW_HTML: html_page(title, str(summary.get("shape", "")), _member_sections(rows, left)), **files}


def _preview_member(registry: MaterializerRegistry, member: NestedMember) -> tuple[PreviewFiles, str]:
    """Give a member's own preview, or what is said in its place: one that fails costs the others nothing."""
    try:
        return registry.preview(member.value, member.encoding, {"shape": member.shape} if member.shape else {}), ""
    except BaseException as error:  # noqa: BLE001 - a panic of polars is not even an Exception
        return {}, f"none: {error}"


def _member_sections(rows: list[MemberRow], left: int) -> Iterator[Markup]:
    yield plain_table(["member", "type", "shape", "preview"], rows)
    if left:
        yield truncation_note(f"{left} more {'member' if left == 1 else 'members'}")


def _file_stem(path: tuple[str, ...], taken: set[str]) -> str:
    """Write a place as the beginning of a file name; those that become alike, on any filesystem, are numbered."""
    stem = _UNSAFE_CHARACTERS.sub("-", ".".join(path)).strip(".-")[:_MAX_NAME_LENGTH] or "member"
    known = {PurePath(name).stem.lower() for name in taken}
    number = 1
    while (found := f"{stem}-{number}" if number > 1 else stem).lower() in known:
        number += 1
    return found


def _member_file_name(stem: str, name: str) -> str:
    """Name a file of a member's preview: `preview.png` of `train` is `train.png`."""
    return f"{stem}.{name.removeprefix('preview.')}" if name.startswith("preview.") else f"{stem}.{name}"
