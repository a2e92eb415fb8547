"""Previews of what lies inside containers and records: a page that lists the first members, and their own previews beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.previews.page import PREVIEW_HTML, Markup, html_page, truncation_note
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.materializers.tree.members import NestedMember, NestedWalker

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
