"""The HTML page of a preview, its parts, and PNG images."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NewType

from airflow_zen.markup import escape_html, escape_html_lines, format_count

Markup = NewType("Markup", str)
"""HTML made by this package, in which all text of users is escaped; plain text is a `str`."""

PREVIEW_HTML = "preview.html"
PREVIEW_PNG = "preview.png"

MAX_PREVIEW_BYTES = 256 * 1024
"""Maximum size of one file of a preview."""

ELLIPSIS = "…"

_PNG_COLOR_TYPES = {1: 0, 3: 2, 4: 6}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_STYLE = """
body{margin:20px;font:13px/1.45 -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;color:#1b2733}
h1{margin:0 0 2px;font-size:16px}h2{margin:22px 0 8px;font-size:13px}
p{margin:2px 0 10px;color:#5b6b7b}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;border-bottom:1px solid #e3e9ee;text-align:left;vertical-align:top;white-space:pre}
thead th{border-bottom:2px solid #c3ced8;background:#fbfcfd}
th small{display:block;font-weight:400;color:#5b6b7b}
tbody th,.row{color:#8592a0;font-weight:400}
pre{margin:0;padding:12px;border:1px solid #e3e9ee;border-radius:6px;background:#fbfcfd;white-space:pre-wrap}
svg text{font-size:10px;font-weight:400;fill:#5b6b7b}
.bar{fill:#5b8fd0}.bar:hover{fill:#2b62a8}
img,iframe{max-width:100%;border:1px solid #e3e9ee;border-radius:6px}
iframe{width:100%;height:75vh;background:#fff}
.cut{color:#a85b00}
"""


def html_page(title: str, subtitle: str, sections: Iterable[Markup], style: str = "", policy: str = "") -> str:
    """Return a page of at most 256 KB; sections that exceed it are left out, and a note says so.

    `style` are further rules of CSS, `policy` further directives of the page's content security policy.
    """
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}{policy}">'
        f"<title>{escape_html(title)}</title><style>{_STYLE}{style}</style></head>"
        f"<body><h1>{escape_html(truncate(title))}</h1><p>{escape_html(truncate(subtitle))}</p>"
    )
    end = "</body></html>"
    limit = MAX_PREVIEW_BYTES - len(head.encode()) - len(end) - 200
    return f"{head}{join_within(limit, sections, truncation_note('The rest is too large for a preview.'))}{end}"


def join_within(limit: int, parts: Iterable[str], note: str) -> str:
    """Return the first parts, of at most `limit` bytes, as one text; where some are left out, `note` follows."""
    shown: list[str] = []
    for part in parts:
        limit -= len(part.encode())
        if limit < 0:
            return "".join([*shown, note])
        shown.append(part)
    return "".join(shown)


def preview_page(
    value: Any, summary: Mapping[str, Any], sections: Iterable[Markup], title: str = ""
) -> Mapping[str, bytes | str]:
    """Return a preview of one page: the name of the value's type as its title, and its `shape` from the summary."""
    return {PREVIEW_HTML: html_page(title or type(value).__qualname__, str(summary.get("shape", "")), sections)}


def truncation_note(text: str) -> Markup:
    """Return a note that something is not shown."""
    return Markup(f'<p class="cut">{ELLIPSIS} {escape_html(text)}</p>')


def hidden_note(count: int, one: str, many: str = "") -> list[Markup]:
    """Return a note that `count` things are not shown, named by their singular and plural; nothing where all are."""
    return [truncation_note(format_count(count, f"more {one}", many and f"more {many}"))] if count > 0 else []


def heading(text: str) -> Markup:
    """Return the heading of a section."""
    return Markup(f"<h2>{escape_html(truncate(text))}</h2>")


def preformatted(text: str, limit: int = 20_000) -> Markup:
    """Return the first `limit` characters of a text as they are, escaped."""
    return Markup(f"<pre>{escape_html_lines(text[:limit])}</pre>{''.join(hidden_note(len(text) - limit, 'character'))}")


def truncate(text: str, limit: int = 120) -> str:
    """Return a text of at most `limit` characters, which ends with an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def encode_png(width: int, height: int, channels: int, pixels: bytes) -> bytes:
    """Return a PNG file of rows of 8-bit gray, RGB or RGBA pixels."""
    row = width * channels
    lines = b"".join(b"\0" + pixels[at * row : (at + 1) * row] for at in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOR_TYPES[channels], 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines, 6)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def img_tag(picture: bytes, width: int) -> Markup:
    """Return a PNG as an image inside the page, `width` pixels wide."""
    text = base64.b64encode(picture).decode()
    return Markup(f'<img alt="" width="{width}" style="image-rendering:pixelated" src="data:image/png;base64,{text}">')


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
