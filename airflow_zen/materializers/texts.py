"""Texts marked as HTML, Markdown, CSV or JSON, each stored as a file that other programs open."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.markup import escape_html_lines
from airflow_zen.materializers.base import Materializer, require_exact_type
from airflow_zen.materializers.previews.html import Markup, heading, hidden_note, preformatted, preview_page
from airflow_zen.materializers.previews.tables import MAX_PREVIEW_COLUMNS, MAX_PREVIEW_ROWS, plain_table
from airflow_zen.type_names import type_name

_MAX_CHARACTERS = 100_000
_MAX_FRAME_BYTES = 180 * 1024


class HTMLString(str):
    """Mark a text as an HTML page or a part of one."""

    __slots__ = ()


class MarkdownString(str):
    """Mark a text as Markdown."""

    __slots__ = ()


class CSVString(str):
    """Mark a text as a table of comma-separated values."""

    __slots__ = ()


class JSONString(str):
    """Mark a text as JSON; it is stored as it is, not parsed."""

    __slots__ = ()


_FILE_NAMES: dict[type[str], str] = {
    HTMLString: "text.html",
    MarkdownString: "text.md",
    CSVString: "text.csv",
    JSONString: "text.json",
}


class TextMaterializer(Materializer):
    """Save a marked text as a UTF-8 file with the extension of its format."""

    types = tuple(map(type_name, _FILE_NAMES))
    encoding = "python.text@1"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `text.html`, `text.md`, `text.csv` or `text.json`; line ends are kept."""
        require_exact_type(value, *_FILE_NAMES)
        try:
            (directory / _FILE_NAMES[type(value)]).write_bytes(value.encode("utf-8"))
        except UnicodeEncodeError as error:
            name = type(value).__qualname__
            raise SaveRefused(f"This {name} is not UTF-8: {error}. Replace its surrogates.") from None
        return {"shape": f"{len(value)} characters"}

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show an HTML page, a table, indented JSON, or the text."""
        return preview_page(value, summary, _text_sections(value))

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the text as the class of its file name."""
        for cls, name in _FILE_NAMES.items():
            if (directory / name).exists():
                return cls((directory / name).read_bytes().decode("utf-8"))
        raise ArtifactRefused(
            f"A text artifact is one of {', '.join(_FILE_NAMES.values())}, and none of them is in it."
        )


def _text_sections(value: Any) -> Iterator[Markup]:
    text = str(value)
    if isinstance(value, HTMLString):
        yield from _html_sections(text)
    elif isinstance(value, CSVString) and (rows := _csv_rows(text)):
        yield plain_table(rows[0][:MAX_PREVIEW_COLUMNS], [row[:MAX_PREVIEW_COLUMNS] for row in rows[1:]])
        yield from hidden_note(len(rows[0]) - MAX_PREVIEW_COLUMNS, "column")
    else:
        yield preformatted(_indent_json(text) if isinstance(value, JSONString) else text)


def _html_sections(text: str) -> Iterator[Markup]:
    """Show a page inside the page: the sandbox forbids scripts, forms and links out, the policy forbids all requests."""
    cut = text[:_MAX_CHARACTERS]
    while len(escape_html_lines(cut).encode()) > _MAX_FRAME_BYTES:
        cut = cut[: len(cut) // 2]
    yield Markup(f'<iframe sandbox="" srcdoc="{escape_html_lines(cut)}"></iframe>')
    yield from hidden_note(len(text) - len(cut), "character")
    yield heading("Source")
    yield preformatted(text, 4_000)


def _csv_rows(text: str) -> list[list[str]]:
    """Return the first rows of a table; none if the text is not CSV."""
    try:
        return list(islice(csv.reader(text[:_MAX_CHARACTERS].splitlines()), 1 + MAX_PREVIEW_ROWS))
    except csv.Error:
        return []


def _indent_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False) if len(text) < _MAX_CHARACTERS else text
    except (ValueError, RecursionError):
        return text
