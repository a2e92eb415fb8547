"""Previews of Plotly figures: their traces, and a sketch of those that are lines, points or bars.

Plotly's own HTML is a script with the data in it, and its pictures need a browser of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from airflow_zen.materializers.previews.lines import MAX_LINES, Line, downsample, line_chart
from airflow_zen.materializers.previews.page import PREVIEW_HTML, Markup, heading, html_page, truncation_note
from airflow_zen.materializers.previews.tables import plain_table

_MAX_TRACES = 50
_MAX_POINTS_READ = 20_000


def preview_plotly_figure(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a figure."""
    title = value.layout.title.text or type(value).__qualname__
    return {PREVIEW_HTML: html_page(str(title), f"Figure of {summary.get('shape', '')}", _figure_sections(value))}


def _figure_sections(figure: Any) -> Iterator[Markup]:
    drawn = [line for line in map(_trace_line, islice(figure.data, MAX_LINES)) if line]
    if drawn:
        yield heading("Sketch")
        yield line_chart(drawn, str(figure.layout.xaxis.title.text or ""), str(figure.layout.yaxis.title.text or ""))
    yield heading("Traces")
    traces = [(trace.type, trace.name or "", _trace_length(trace)) for trace in islice(figure.data, _MAX_TRACES)]
    yield plain_table(["type", "name", "values"], traces)
    if len(figure.data) > _MAX_TRACES:
        yield truncation_note(f"{len(figure.data) - _MAX_TRACES} more traces")


def _trace_line(trace: Any) -> Line | None:
    if trace.type not in {"scatter", "scattergl", "bar"} or trace.y is None or not len(trace.y):
        return None
    y = _to_floats(trace.y)
    if y is None:
        return None
    x = _to_floats(trace.x) if trace.x is not None and len(trace.x) == len(y) else None
    places = x if x is not None else [float(at) for at in range(len(y))]
    markers_only = trace.type == "bar" or "lines" not in str(trace.mode or "lines")
    return downsample(Line(str(trace.name or ""), places, y, markers_only))


def _to_floats(values: Sequence[Any]) -> list[float] | None:
    try:
        return [float("nan") if item is None else float(item) for item in islice(values, _MAX_POINTS_READ)]
    except (TypeError, ValueError):
        return None  # dates and names


def _trace_length(trace: Any) -> int | str:
    held = (trace._props.get(name) for name in ("y", "x", "z", "values", "r"))  # noqa: SLF001 - asks no trace for what it has not
    return next(
        (len(values) for values in held if hasattr(values, "__len__") and not isinstance(values, dict | str)), ""
    )
