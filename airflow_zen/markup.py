"""Escape text from users for XML and HTML."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

# The characters that XML 1.0 does not allow.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Marks that change the direction of the text around them.
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")


def sanitize_text(text: str) -> str:
    """Replace characters that XML does not allow by `�`, and remove marks that change the direction of text."""
    return _DIRECTION.sub("", _NOT_XML.sub("\ufffd", text))


def escape_html_lines(text: str) -> str:
    """Escape each line as `escape_html` does; keep the line breaks."""
    return "\n".join(escape_html(line) for line in text.splitlines())


def escape_html(text: str) -> str:
    """Escape for XML and HTML, in text and in attributes, on one line."""
    return escape(sanitize_text(text), {'"': "&quot;", "'": "&#39;", "\n": " ", "\r": " ", "\t": " "})
