"""Previews of marked texts: what is written, and of HTML how it looks, in a frame that runs and fetches nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from airflow_zen.escape import escape_html_lines
from airflow_zen.materializers.previews.page import (
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
