"""The HTML page of a preview, its parts, PNG images, and charts as inline SVG."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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

_SCHEMES, _DARK_ONLY = ":root{color-scheme:light dark}", "@media (prefers-color-scheme:dark)"

# A frame's background is that of the page around it, in both colour schemes.
_STYLE = (
    _SCHEMES
    + """
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
@media (prefers-color-scheme:dark){
body{color:#dfe5ea}p,th small,.row,tbody th{color:#9aa8b5}svg text{fill:#9aa8b5}.cut{color:#f0b75e}
th,td{border-color:#3a444e}thead th{background:#80808018;border-color:#4c5863}pre{background:#80808018}pre,img,iframe{border-color:#3a444e}
}
"""
)

BINS = 20
MAX_TOP_VALUES = 4
MAX_POINTS, MAX_LINES = 300, 8

_CHART_WIDTH, _CHART_HEIGHT, _ROW_HEIGHT = 150.0, 44.0, 14
_BAR_CHART_WIDTH = 620
_PLOT_WIDTH, _PLOT_HEIGHT = 460.0, 300.0
_PLOT_LEFT, _PLOT_TOP, _PLOT_BOTTOM = 56.0, 8.0, 34.0
_LINE_COLORS = ("#2b62a8", "#d98b1f", "#2e9e5b", "#d64545", "#8a63d2", "#18a2b8", "#8c6d46", "#5b6b7b")


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


def in_scheme(page: bytes, *, dark: bool) -> bytes:
    """Return a page of `html_page` in one colour scheme, whatever the browser prefers; another page as it is."""
    style, end, rest = page.partition(b"</style>")
    style = style.replace(_SCHEMES.encode(), b":root{color-scheme:%s}" % (b"dark" if dark else b"light"), 1)
    return style.replace(_DARK_ONLY.encode(), b"@media all" if dark else b"@media not all") + end + rest


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


def bar_chart(rows: Sequence[tuple[str, float]]) -> Markup:
    """Draw named, non-negative numbers as long bars, one below the other."""
    most = max((number for _, number in rows), default=0.0) or 1.0
    bars = []
    for at, (name, number) in enumerate(rows):
        length, top = max(0.0, number) / most * (_BAR_CHART_WIDTH - 290), at * 20
        bars.append(
            f'<text x="190" y="{top + 14}" text-anchor="end">{escape_html(truncate(name, 30))}</text>'
            f'<rect class="bar" x="198" y="{top + 4}" width="{length:.1f}" height="13">'
            f"<title>{escape_html(name[:500])}: {number:.6g}</title></rect>"
            f'<text x="{202 + length:.1f}" y="{top + 14}">{number:.4g}</text>'
        )
    return svg(_BAR_CHART_WIDTH, len(rows) * 20 + 6, *bars)


def histogram(low: str, high: str, counts: Sequence[int]) -> Markup:
    """Draw the counts of the values in bins of equal width between `low` and `high`, as small bars."""
    most, step = max(counts, default=0) or 1, _CHART_WIDTH / max(1, len(counts))
    bars = []
    for at, count in enumerate(counts):
        height = count / most * (_CHART_HEIGHT - 12)
        place = f'x="{at * step:.1f}" y="{_CHART_HEIGHT - 12 - height:.1f}" width="{max(1.0, step - 1):.1f}"'
        bars.append(f'<rect class="bar" {place} height="{height:.1f}"><title>{count}</title></rect>')
    first, last = escape_html(truncate(low, 12)), escape_html(truncate(high, 12))
    labels = (
        f'<text x="0" y="{_CHART_HEIGHT - 1}">{first}</text>'
        f'<text x="{_CHART_WIDTH}" y="{_CHART_HEIGHT - 1}" text-anchor="end">{last}</text>'
    )
    return svg(_CHART_WIDTH, _CHART_HEIGHT, *bars, labels)


def top_values(values: Sequence[tuple[str, int]], others: int) -> Markup:
    """Draw the most frequent values and their shares, as small bars; `others` counts all further values."""
    rows = [*values, *([(f"{ELLIPSIS} others", others)] if others else [])]
    total = sum(count for _, count in rows) or 1
    lines = (
        f'<rect x="0" y="{at * _ROW_HEIGHT}" width="{count / total * _CHART_WIDTH:.1f}" height="{_ROW_HEIGHT - 2}" fill="#5b8fd0" fill-opacity=".3"/>'
        f'<text x="3" y="{at * _ROW_HEIGHT + 10}">{escape_html(truncate(text, 16))}<title>{escape_html(truncate(text))}</title></text>'
        f'<text x="{_CHART_WIDTH}" y="{at * _ROW_HEIGHT + 10}" text-anchor="end">{count / total:.0%}</text>'
        for at, (text, count) in enumerate(rows)
    )
    return svg(_CHART_WIDTH, len(rows) * _ROW_HEIGHT + 2, *lines)


@dataclass(frozen=True)
class Line:
    """Points in order, joined by a line unless `markers_only`."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    markers_only: bool = False


def line_chart(
    plotted: Sequence[Line], x_title: str = "", y_title: str = "", diagonal: bool = False, axis_max: float | None = None
) -> Markup:
    """Draw at most 8 lines of at most 300 points with a legend; `axis_max` draws both axes from 0 to that number."""
    plotted = plotted[:MAX_LINES]
    scale_x = _Scale((line.x for line in plotted), axis_max, _PLOT_LEFT, _PLOT_WIDTH - 10)
    scale_y = _Scale((line.y for line in plotted), axis_max, _PLOT_HEIGHT - _PLOT_BOTTOM, _PLOT_TOP)
    parts = [_axes_svg(scale_x, scale_y, x_title, y_title)]
    if diagonal:
        ends = f'x1="{_PLOT_LEFT}" y1="{_PLOT_HEIGHT - _PLOT_BOTTOM}" x2="{_PLOT_WIDTH - 10}" y2="{_PLOT_TOP}"'
        parts.append(f'<line {ends} stroke="currentColor" stroke-opacity=".3" stroke-dasharray="4 3"/>')
    parts += [_line_svg(line, scale_x, scale_y, _LINE_COLORS[at]) for at, line in enumerate(plotted)]
    parts += [_legend_svg(line, at) for at, line in enumerate(plotted) if line.name]
    width = _PLOT_WIDTH + (220 if any(line.name for line in plotted) else 0)
    return svg(width, _PLOT_HEIGHT, *parts)


def downsample(line: Line) -> Line:
    """Return a line of at most about 300 of its points, including the first and the last."""
    step = max(1, math.ceil((len(line.x) - 1) / (MAX_POINTS - 1)))
    picked = [*range(0, len(line.x) - 1, step), *([len(line.x) - 1] if len(line.x) else [])]
    return Line(line.name, [line.x[at] for at in picked], [line.y[at] for at in picked], line.markers_only)


class _Scale:
    """A linear scale from numbers to positions between `start` and `end`."""

    def __init__(self, numbers: Iterable[Sequence[float]], axis_max: float | None, start: float, end: float) -> None:
        finite = [number for held in numbers for number in held if math.isfinite(number)]
        low, high = (0.0, axis_max) if axis_max is not None else (min(finite, default=0.0), max(finite, default=1.0))
        self.low, self.high = (low, high) if low < high else (low - 0.5, low + 0.5)
        self.start, self.end = start, end

    def at(self, number: float) -> float:
        share = (number - self.low) / (self.high - self.low)
        return self.start + (share if math.isfinite(share) else 0.0) * (self.end - self.start)


def _line_svg(line: Line, x: _Scale, y: _Scale, color: str) -> str:
    points = [(x.at(a), y.at(b)) for a, b in zip(line.x, line.y, strict=False) if math.isfinite(a) and math.isfinite(b)]
    if line.markers_only:
        return "".join(
            f'<rect x="{a - 1.5:.1f}" y="{b - 1.5:.1f}" width="3" height="3" fill="{color}"/>' for a, b in points
        )
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>'


def _axes_svg(x: _Scale, y: _Scale, x_title: str, y_title: str) -> str:
    bottom, middle = _PLOT_HEIGHT - _PLOT_BOTTOM, (_PLOT_LEFT + _PLOT_WIDTH - 10) / 2
    return (
        f'<rect x="{_PLOT_LEFT}" y="{_PLOT_TOP}" width="{_PLOT_WIDTH - 10 - _PLOT_LEFT}" height="{bottom - _PLOT_TOP}" fill="none" stroke="currentColor" stroke-opacity=".3"/>'
        f'<text x="{_PLOT_LEFT}" y="{bottom + 13}">{x.low:.4g}</text>'
        f'<text x="{_PLOT_WIDTH - 10}" y="{bottom + 13}" text-anchor="end">{x.high:.4g}</text>'
        f'<text x="{_PLOT_LEFT - 4}" y="{bottom}" text-anchor="end">{y.low:.4g}</text>'
        f'<text x="{_PLOT_LEFT - 4}" y="{_PLOT_TOP + 9}" text-anchor="end">{y.high:.4g}</text>'
        f'<text x="{middle}" y="{_PLOT_HEIGHT - 4}" text-anchor="middle">{escape_html(truncate(x_title, 60))}</text>'
        f'<text transform="translate(12 {bottom / 2 + 4}) rotate(-90)" text-anchor="middle">'
        f"{escape_html(truncate(y_title, 40))}</text>"
    )


def _legend_svg(line: Line, at: int) -> str:
    top = _PLOT_TOP + 16 * at
    return (
        f'<rect x="{_PLOT_WIDTH + 4}" y="{top}" width="10" height="10" fill="{_LINE_COLORS[at]}"/>'
        f'<text x="{_PLOT_WIDTH + 20}" y="{top + 9}">{escape_html(truncate(line.name, 34))}</text>'
    )


def svg(width: float, height: float, *parts: str) -> Markup:
    """Return an SVG image of its elements."""
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return Markup(f'<svg {size} role="img">{"".join(parts)}</svg>')
