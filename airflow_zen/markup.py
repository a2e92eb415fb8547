"""Text for people: escaped markup, tables and trees in notebooks and terminals, and quantities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# The characters that XML 1.0 does not allow.
_NOT_XML = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
# Marks that change the direction of the text around them.
_DIRECTION = "[\u202a-\u202e\u2066-\u2069\u200e\u200f]"
_ENTITIES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "\n": " ", "\r": " ", "\t": " "}
)


def sanitize_text(text: str) -> str:
    """Replace characters that XML does not allow by `�`, and remove marks that change the direction of text."""
    # None of them is printable; compiling the patterns takes 5 ms.
    is_clean = text.replace("\n", "").replace("\t", "").isprintable()
    return text if is_clean else re.sub(_DIRECTION, "", re.sub(_NOT_XML, "\ufffd", text))


def escape_html_lines(text: str) -> str:
    """Escape each line as `escape_html` does; keep the line breaks."""
    return "\n".join(escape_html(line) for line in text.splitlines())


def escape_html(text: str) -> str:
    """Escape for XML and HTML, in text and in attributes, on one line."""
    return sanitize_text(text).translate(_ENTITIES)


def html_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table for a notebook, with all text escaped; None is an empty cell."""

    def cells(tag: str, values: Sequence[Any]) -> str:
        texts = ("" if value is None else escape_html(str(value)) for value in values)
        return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f"<table><thead>{cells('th', header)}</thead><tbody>{body}</tbody></table>"


def text_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as lines of text; None is an empty cell."""
    table = [["" if value is None else sanitize_text(str(value)) for value in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(" | ".join(map(str.ljust, row, widths)).rstrip() for row in table)


@dataclass(frozen=True)
class Tree:
    """A label and the trees below it."""

    label: str
    branches: tuple[Tree, ...] = ()

    def __str__(self) -> str:
        lines = [" ".join(sanitize_text(self.label).split())]
        for number, branch in enumerate(self.branches, 1):
            first, *rest = str(branch).splitlines()
            corner, edge = ("└── ", "    ") if number == len(self.branches) else ("├── ", "│   ")
            lines += [corner + first, *(edge + line for line in rest)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{branch._repr_html_()}</li>" for branch in self.branches)
        return escape_html(self.label) + (f"<ul>{items}</ul>" if items else "")


def iso_time(seconds: float) -> str:
    """Return a time, in seconds since the epoch, in ISO format and UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def format_seconds(seconds: float) -> str:
    """Return a duration as text: `0.4 s`, `12 min`, `6.2 h`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def format_bytes(size: float) -> str:
    """Return a number of bytes as text: `512 B`, `1.4 MB`."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def format_count(count: int, one: str, many: str = "") -> str:
    """Return a number of things as text, by their singular and plural (by default with an s): `1 task`, `2 tasks`."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
