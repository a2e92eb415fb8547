"""What a column's values look like, drawn small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_zen.escape import escape_html
from airflow_zen.materializers.previews.page import ELLIPSIS, Markup, truncate

BINS = 20
MAX_TOP_VALUES = 4

_CHART_WIDTH, _CHART_HEIGHT = 150.0, 44.0
_ROW_HEIGHT = 14


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


def chart_svg(chart: Chart | None) -> Markup:
    """Draw a chart as inline SVG; nothing for None."""
    if isinstance(chart, Histogram):
        return _histogram_svg(chart)
    return _top_values_svg(chart) if chart else Markup("")


def bar_chart(rows: Sequence[tuple[str, float]], width: int = 620) -> Markup:
    """Draw named, non-negative numbers as long bars, one below the other."""
    most = max((number for _, number in rows), default=0.0) or 1.0
    lines = [
        f'<text x="190" y="{at * 20 + 14}" text-anchor="end">{escape_html(truncate(name, 30))}</text>'
        f'<rect class="bar" x="198" y="{at * 20 + 4}" width="{max(0.0, number) / most * (width - 290):.1f}" height="13">'
        f"<title>{escape_html(name[:500])}: {number:.6g}</title></rect>"
        f'<text x="{202 + max(0.0, number) / most * (width - 290):.1f}" y="{at * 20 + 14}">{number:.4g}</text>'
        for at, (name, number) in enumerate(rows)
    ]
    return Markup(f"{_svg_open_tag(width, len(rows) * 20 + 6)}{''.join(lines)}</svg>")


def _histogram_svg(chart: Histogram) -> Markup:
    most = max(chart.counts, default=0) or 1
    step = _CHART_WIDTH / max(1, len(chart.counts))
    lines = []
    for at, count in enumerate(chart.counts):
        height = count / most * (_CHART_HEIGHT - 12)
        place = f'x="{at * step:.1f}" y="{_CHART_HEIGHT - 12 - height:.1f}" width="{max(1.0, step - 1):.1f}"'
        lines.append(f'<rect class="bar" {place} height="{height:.1f}"><title>{count}</title></rect>')
    low, high = escape_html(truncate(chart.low, 12)), escape_html(truncate(chart.high, 12))
    return Markup(
        f'{_svg_open_tag(_CHART_WIDTH, _CHART_HEIGHT)}{"".join(lines)}<text x="0" y="{_CHART_HEIGHT - 1}">{low}</text>'
        f'<text x="{_CHART_WIDTH}" y="{_CHART_HEIGHT - 1}" text-anchor="end">{high}</text></svg>'
    )


def _top_values_svg(chart: TopValues) -> Markup:
    rows = [*chart.values, *([(f"{ELLIPSIS} others", chart.others)] if chart.others else [])]
    total = sum(count for _, count in rows) or 1
    lines = [
        f'<rect x="0" y="{at * _ROW_HEIGHT}" width="{count / total * _CHART_WIDTH:.1f}" height="{_ROW_HEIGHT - 2}" fill="#cfe0f3"/>'
        f'<text x="3" y="{at * _ROW_HEIGHT + 10}">{escape_html(truncate(text, 16))}<title>{escape_html(truncate(text))}</title></text>'
        f'<text x="{_CHART_WIDTH}" y="{at * _ROW_HEIGHT + 10}" text-anchor="end">{count / total:.0%}</text>'
        for at, (text, count) in enumerate(rows)
    ]
    return Markup(f"{_svg_open_tag(_CHART_WIDTH, len(rows) * _ROW_HEIGHT + 2)}{''.join(lines)}</svg>")


def _svg_open_tag(width: float, height: float) -> str:
    return f'<svg width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" role="img">'
