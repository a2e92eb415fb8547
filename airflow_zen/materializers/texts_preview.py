"""Previews of marked texts: what is written, and of HTML how it looks, in a frame that runs and fetches nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from airflow_zen.escape import safe_lines
from airflow_zen.materializers.previews.page import HTML, Markup, cut_note, heading, page, preformatted
from airflow_zen.materializers.previews.tables import COLUMNS, ROWS, hidden_columns, plain_table

_MOST_CHARACTERS = 100_000
_MOST_BYTES = 180 * 1024


def preview(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a text as what it is marked to be."""
    sections = {"HTMLString": _html, "CSVString": _csv, "JSONString": _json}.get(type(value).__qualname__, _text)
    return {HTML: page(type(value).__qualname__, str(summary.get("shape", "")), sections(str(value)))}


def _text(text: str) -> Iterator[Markup]:
    yield preformatted(text)


def _html(text: str) -> Iterator[Markup]:
    """Show a page inside the page: the sandbox forbids scripts, forms and links out, the policy every request."""
    cut = text
    while len(safe_lines(cut[:_MOST_CHARACTERS]).encode()) > _MOST_BYTES:
        cut = cut[: min(len(cut), _MOST_CHARACTERS) // 2]
    cut = cut[:_MOST_CHARACTERS]
    yield Markup(f'<iframe sandbox="" srcdoc="{safe_lines(cut)}"></iframe>')
    if len(cut) < len(text):
        yield cut_note(f"{len(text) - len(cut)} more characters")
    yield heading("Source")
    yield preformatted(text, 4_000)


def _csv(text: str) -> Iterator[Markup]:
    try:
        rows = list(islice(csv.reader(text[:_MOST_CHARACTERS].splitlines()), 1 + ROWS))
    except csv.Error:
        rows = []
    if not rows:
        yield preformatted(text)
        return
    yield plain_table(rows[0][:COLUMNS], [row[:COLUMNS] for row in rows[1:]])
    yield from hidden_columns(len(rows[0]) - COLUMNS)


def _json(text: str) -> Iterator[Markup]:
    try:
        yield preformatted(
            json.dumps(json.loads(text), indent=2, ensure_ascii=False) if len(text) < _MOST_CHARACTERS else text
        )
    except (ValueError, RecursionError):
        yield preformatted(text)
