"""Text from users, made safe for a picture or a page, and as long as there is room."""

from __future__ import annotations

import re
import unicodedata

from airflow_zen.escape import escape_html, sanitize_text
from airflow_zen.lineage.limits import ELLIPSIS

__all__ = ["escape_html", "markdown_cell", "truncate_to_width"]

_WIDE = frozenset("WF")
_NARROW, _FULL = 0.58, 1.0


def truncate_to_width(text: str, width: float, size: float) -> str:
    """Cut a text to about `width` pixels at a font of `size` pixels."""
    remaining = width
    for place, character in enumerate(text):
        remaining -= size * (_FULL if unicodedata.east_asian_width(character) in _WIDE else _NARROW)
        if remaining < 0:
            return text[: max(place - 1, 1)] + ELLIPSIS
    return text


def markdown_cell(text: str) -> str:
    """Write text into a cell of a Markdown table: no markup, no link, no line break."""
    line = " ".join(sanitize_text(text).split())
    return re.sub(r"([\\`*_{}\[\]<>()#!|~$])", r"\\\1", line).replace("&", "&amp;")
