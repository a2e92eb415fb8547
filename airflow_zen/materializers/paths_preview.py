"""Previews of files and directories: a small picture, the text of a text file, else the list of files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_zen.materializers.previews.page import HTML, MOST_BYTES, PNG, Markup, cut_note, page, preformatted
from airflow_zen.materializers.previews.tables import plain_table

_MOST_LISTED = 200
_MOST_READ = 20_000
_TEXTS = frozenset(
    {".csv", ".html", ".json", ".log", ".md", ".py", ".sql", ".svg", ".txt", ".tsv", ".xml", ".yaml", ".yml"}
)


def preview(value: Path, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
    """Show what a path points to; `savefig` writes PNG files that are shown as they are."""
    if value.suffix.lower() == ".png" and value.is_file() and value.stat().st_size <= MOST_BYTES:
        content = value.read_bytes()
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return {PNG: content}
    subtitle = f"{summary.get('shape', '')}, {summary.get('size', 0):,} bytes"
    return {HTML: page(value.absolute().name, subtitle, _sections(value))}


def _sections(path: Path) -> Iterator[Markup]:
    if path.is_dir():
        files = list(islice(_files(path), _MOST_LISTED + 1))
        yield plain_table(["file", "bytes"], files[:_MOST_LISTED])
        if len(files) > _MOST_LISTED:
            yield cut_note("more files")
    elif path.suffix.lower() in _TEXTS:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_READ + 1)
        yield preformatted(text[:_MOST_READ])
        if len(text) > _MOST_READ:
            yield cut_note("more text")


def _files(root: Path) -> Iterator[tuple[str, int]]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path.stat().st_size
