"""Previews of files and directories: a small picture, the text of a text file, else the list of files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_zen.materializers.previews.page import (
    MAX_PREVIEW_BYTES,
    PREVIEW_HTML,
    PREVIEW_PNG,
    Markup,
    html_page,
    preformatted,
    truncation_note,
)
from airflow_zen.materializers.previews.tables import plain_table

_MAX_FILES_LISTED = 200
_MAX_TEXT_CHARACTERS = 20_000
_TEXT_SUFFIXES = frozenset(
    {".csv", ".html", ".json", ".log", ".md", ".py", ".sql", ".svg", ".txt", ".tsv", ".xml", ".yaml", ".yml"}
)


def preview_path(value: Path, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
    """Show what a path points to; `savefig` writes PNG files that are shown as they are."""
    if value.suffix.lower() == ".png" and value.is_file() and value.stat().st_size <= MAX_PREVIEW_BYTES:
        content = value.read_bytes()
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return {PREVIEW_PNG: content}
    subtitle = f"{summary.get('shape', '')}, {summary.get('size', 0):,} bytes"
    return {PREVIEW_HTML: html_page(value.absolute().name, subtitle, _path_sections(value))}


def _path_sections(path: Path) -> Iterator[Markup]:
    if path.is_dir():
        files = list(islice(_file_sizes(path), _MAX_FILES_LISTED + 1))
        yield plain_table(["file", "bytes"], files[:_MAX_FILES_LISTED])
        if len(files) > _MAX_FILES_LISTED:
            yield truncation_note("more files")
    elif path.suffix.lower() in _TEXT_SUFFIXES:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_TEXT_CHARACTERS + 1)
        yield preformatted(text[:_MAX_TEXT_CHARACTERS])
        if len(text) > _MAX_TEXT_CHARACTERS:
            yield truncation_note("more text")


def _file_sizes(root: Path) -> Iterator[tuple[str, int]]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path.stat().st_size
