"""Text that says what it is: HTML, Markdown, CSV and JSON, each a file that other programs open."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.markup import escape_html_lines
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import (
    PREVIEW_HTML,
    Markup,
    heading,
    html_page,
    preformatted,
    truncation_note,
)
from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    hidden_columns_note,
    plain_table,
)
from airflow_zen.type_names import type_name


class HTMLString(str):
    """Say that a text is an HTML page or a part of one."""

    __slots__ = ()


class MarkdownString(str):
    """Say that a text is Markdown."""

    __slots__ = ()


class CSVString(str):
    """Say that a text is a table of comma-separated values."""

    __slots__ = ()


class JSONString(str):
    """Say that a text is JSON; it is stored as it stands, not parsed."""

    __slots__ = ()


_CLASS_BY_FILE_NAME: dict[str, type[str]] = {
    "text.html": HTMLString,
    "text.md": MarkdownString,
    "text.csv": CSVString,
    "text.json": JSONString,
}


class TextMaterializer(Materializer):
    """Save a marked text as a UTF-8 file, named for what it is."""

    types = tuple(f"{__name__}.{cls.__qualname__}" for cls in _CLASS_BY_FILE_NAME.values())
    encoding = "python.text@1"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `text.html`, `text.md`, `text.csv` or `text.json`, line ends as they are."""
        name = next((name for name, cls in _CLASS_BY_FILE_NAME.items() if type(value) is cls), None)
        if name is None:
            raise SaveRefused(f"{type_name(type(value))} is a subclass that would come back as its base class.")
        try:
            (directory / name).write_bytes(value.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise SaveRefused(
                f"This {type(value).__qualname__} is not UTF-8: {error}. Replace its surrogates."
            ) from None
        return {"shape": f"{len(value)} characters"}

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the text as what it is marked to be."""
        return preview_text(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the text as the class that its file name says."""
        for name, cls in _CLASS_BY_FILE_NAME.items():
            if (directory / name).exists():
                return cls((directory / name).read_bytes().decode("utf-8"))
        raise ArtifactRefused(f"A text artifact is one of {', '.join(_CLASS_BY_FILE_NAME)}, and none of them is in it.")


_MAX_CHARACTERS = 100_000
_MAX_FRAME_BYTES = 180 * 1024


def preview_text(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a text as what it is marked to be."""
    sections = {"HTMLString": _html_sections, "CSVString": _csv_sections, "JSONString": _json_sections}.get(
        type(value).__qualname__, _text_sections
    )
    return {PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), sections(str(value)))}


def _text_sections(text: str) -> Iterator[Markup]:
    yield preformatted(text)


def _html_sections(text: str) -> Iterator[Markup]:
    """Show a page inside the page: the sandbox forbids scripts, forms and links out, the policy every request."""
    cut = text
    while len(escape_html_lines(cut[:_MAX_CHARACTERS]).encode()) > _MAX_FRAME_BYTES:
        cut = cut[: min(len(cut), _MAX_CHARACTERS) // 2]
    cut = cut[:_MAX_CHARACTERS]
    yield Markup(f'<iframe sandbox="" srcdoc="{escape_html_lines(cut)}"></iframe>')
    if len(cut) < len(text):
        yield truncation_note(f"{len(text) - len(cut)} more characters")
    yield heading("Source")
    yield preformatted(text, 4_000)


def _csv_sections(text: str) -> Iterator[Markup]:
    try:
        rows = list(islice(csv.reader(text[:_MAX_CHARACTERS].splitlines()), 1 + MAX_PREVIEW_ROWS))
    except csv.Error:
        rows = []
    if not rows:
        yield preformatted(text)
        return
    yield plain_table(rows[0][:MAX_PREVIEW_COLUMNS], [row[:MAX_PREVIEW_COLUMNS] for row in rows[1:]])
    yield from hidden_columns_note(len(rows[0]) - MAX_PREVIEW_COLUMNS)


def _json_sections(text: str) -> Iterator[Markup]:
    try:
        yield preformatted(
            json.dumps(json.loads(text), indent=2, ensure_ascii=False) if len(text) < _MAX_CHARACTERS else text
        )
    except (ValueError, RecursionError):
        yield preformatted(text)
