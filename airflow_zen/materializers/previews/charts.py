"""What a column's values look like, drawn small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_zen.escape import safe
from airflow_zen.materializers.previews.page import CUT, Markup, shortened

BINS = 20
TOP = 4

_WIDTH, _HEIGHT = 150.0, 44.0
_LINE = 14


@dataclass(frozen=True)
class Histogram:
    """How many values lie in each of equal parts between `low` and `high`, which are text for people."""

    low: str
    high: str
    counts: Sequence[int]


@dataclass(frozen=True)
class TopValues:
    """The most frequent values with their counts; `others` counts those of all further values."""

    values: Sequence[tuple[str, int]]
    others: int = 0


Chart = Histogram | TopValues


def drawn(chart: Chart | None) -> Markup:
    """Draw a chart as inline SVG; nothing for None."""
    if isinstance(chart, Histogram):
        return _histogram(chart)
    return _top_values(chart) if chart else Markup("")


def bars(rows: Sequence[tuple[str, float]], width: int = 620) -> Markup:
    """Draw named, non-negative numbers as long bars, one below the other."""
    most = max((number for _, number in rows), default=0.0) or 1.0
    lines = [
        f'<text x="190" y="{at * 20 + 14}" text-anchor="end">{safe(shortened(name, 30))}</text>'
        f'<rect class="bar" x="198" y="{at * 20 + 4}" width="{max(0.0, number) / most * (width - 290):.1f}" height="13">'
        f"<title>{safe(name[:500])}: {number:.6g}</title></rect>"
        f'<text x="{202 + max(0.0, number) / most * (width - 290):.1f}" y="{at * 20 + 14}">{number:.4g}</text>'
        for at, (name, number) in enumerate(rows)
    ]
    return Markup(f"{_svg(width, len(rows) * 20 + 6)}{''.join(lines)}</svg>")


def _histogram(chart: Histogram) -> Markup:
    most = max(chart.counts, default=0) or 1
    step = _WIDTH / max(1, len(chart.counts))
    lines = []
    for at, count in enumerate(chart.counts):
        height = count / most * (_HEIGHT - 12)
        place = f'x="{at * step:.1f}" y="{_HEIGHT - 12 - height:.1f}" width="{max(1.0, step - 1):.1f}"'
        lines.append(f'<rect class="bar" {place} height="{height:.1f}"><title>{count}</title></rect>')
    low, high = safe(shortened(chart.low, 12)), safe(shortened(chart.high, 12))
    return Markup(
        f'{_svg(_WIDTH, _HEIGHT)}{"".join(lines)}<text x="0" y="{_HEIGHT - 1}">{low}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 1}" text-anchor="end">{high}</text></svg>'
    )


def _top_values(chart: TopValues) -> Markup:
    rows = [*chart.values, *([(f"{CUT} others", chart.others)] if chart.others else [])]
    total = sum(count for _, count in rows) or 1
    lines = [
        f'<rect x="0" y="{at * _LINE}" width="{count / total * _WIDTH:.1f}" height="{_LINE - 2}" fill="#cfe0f3"/>'
        f'<text x="3" y="{at * _LINE + 10}">{safe(shortened(text, 16))}<title>{safe(shortened(text))}</title></text>'
        f'<text x="{_WIDTH}" y="{at * _LINE + 10}" text-anchor="end">{count / total:.0%}</text>'
        for at, (text, count) in enumerate(rows)
    ]
    return Markup(f"{_svg(_WIDTH, len(rows) * _LINE + 2)}{''.join(lines)}</svg>")


def _svg(width: float, height: float) -> str:
    return f'<svg width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" role="img">'
