"""Text from users, made safe for a picture or a page, and as long as there is room."""

from __future__ import annotations

import re
import unicodedata

from airflow_zen.escape import clean, safe
from airflow_zen.lineage.limits import CUT

__all__ = ["cell", "fitted", "safe"]

_WIDE = frozenset("WF")
_NARROW, _FULL = 0.58, 1.0


def fitted(text: str, width: float, size: float) -> str:
    """Cut a text to about `width` pixels at a font of `size` pixels."""
    room = width
    for place, character in enumerate(text):
        room -= size * (_FULL if unicodedata.east_asian_width(character) in _WIDE else _NARROW)
        if room < 0:
            return text[: max(place - 1, 1)] + CUT
    return text


def cell(text: str) -> str:
    """Write text into a cell of a Markdown table: no markup, no link, no line break."""
    line = " ".join(clean(text).split())
    return re.sub(r"([\\`*_{}\[\]<>()#!|~$])", r"\\\1", line).replace("&", "&amp;")
