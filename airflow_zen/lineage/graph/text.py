"""Text from users, made safe for a picture or a page, and as long as there is room."""

from __future__ import annotations

import re
import unicodedata
from xml.sax.saxutils import escape

from airflow_zen.lineage.limits import CUT

# Everything that XML 1.0 has no place for.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Marks that change the direction of the text around them.
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")

_WIDE = frozenset("WF")
_NARROW, _FULL = 0.58, 1.0


def safe(text: str) -> str:
    """Escape for XML and HTML, in text and in attributes; characters that may not appear become `�`."""
    clean = _DIRECTION.sub("", _NOT_XML.sub("\ufffd", text))
    return escape(clean, {'"': "&quot;", "'": "&#39;", "\n": " ", "\r": " ", "\t": " "})


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
    clean = " ".join(_DIRECTION.sub("", _NOT_XML.sub("\ufffd", text)).split())
    return re.sub(r"([\\`*_{}\[\]<>()#!|~$])", r"\\\1", clean).replace("&", "&amp;")
