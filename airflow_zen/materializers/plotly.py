"""Plotly figures as typed JSON."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.markup import format_count
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import (
    MAX_LINES,
    Line,
    Markup,
    downsample,
    heading,
    hidden_note,
    line_chart,
    preview_page,
)
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

FIGURE_FILE = "figure.json"

_MAX_TRACES = 50
_MAX_POINTS_READ = 20_000


class PlotlyMaterializer(Materializer):
    """Save the traces, layout and frames of a figure, its arrays with their dtypes.

    Refused: a `FigureWidget`, which is bound to a notebook.
    """

    types = ("plotly.basedatatypes.BaseFigure",)
    encoding = "plotly.json@1"
    libraries = ("plotly",)
    extra = "plotly"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `figure.json`: the figure's properties as typed JSON, large arrays beside it as parts."""
        from plotly.graph_objects import Figure

        if type(value) is not Figure:
            raise SaveRefused(f"{type_name(type(value))} would come back as Figure. Return go.Figure(value).")
        parts = write_typed_json(self, _figure_properties(value), directory, FIGURE_FILE)
        return {"shape": format_count(len(value.data), "trace"), **parts}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the figure."""
        from plotly.graph_objects import Figure

        return Figure(read_typed_json(self, directory, FIGURE_FILE))

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the traces, and a sketch of lines, points and bars."""
        layout, sections = value.layout, list[Markup]()
        drawn = [line for line in map(_trace_line, islice(value.data, MAX_LINES)) if line]
        if drawn:
            x_title, y_title = (str(axis.title.text or "") for axis in (layout.xaxis, layout.yaxis))
            sections += [heading("Sketch"), line_chart(drawn, x_title, y_title)]
        traces = [(trace.type, trace.name or "", _trace_length(trace)) for trace in islice(value.data, _MAX_TRACES)]
        sections += [heading("Traces"), plain_table(["type", "name", "values"], traces)]
        sections += hidden_note(len(value.data) - _MAX_TRACES, "trace")
        return preview_page(value, summary, sections, str(layout.title.text or ""))


def _figure_properties(figure: Any) -> dict[str, Any]:
    """Return the properties as they were set; `to_plotly_json` encodes arrays as base64, with smaller dtypes."""
    frames = [frame._props for frame in figure._frame_objs]  # noqa: SLF001 - nothing public returns the arrays
    held = {"data": figure._data, "layout": figure._layout, **({"frames": frames} if frames else {})}  # noqa: SLF001
    try:
        return {name: _sort_keys(node) for name, node in held.items()}
    except TypeError as error:
        raise SaveRefused(
            f"A figure is stored with its keys in order, and these have none: {error}. Use strings as keys, in meta too."
        ) from error


def _sort_keys(node: Any) -> Any:
    """Sort all keys: their order has no meaning for a figure, and plotly changes it."""
    if isinstance(node, dict):
        return {key: _sort_keys(item) for key, item in sorted(node.items())}
    return [_sort_keys(item) for item in node] if type(node) is list else node


def _trace_line(trace: Any) -> Line | None:
    y = _to_floats(trace.y) if trace.type in {"scatter", "scattergl", "bar"} else []
    if not y:
        return None
    x = _to_floats(trace.x)
    places = x if len(x) == len(y) else [float(at) for at in range(len(y))]
    markers_only = trace.type == "bar" or "lines" not in str(trace.mode or "lines")
    return downsample(Line(str(trace.name or ""), places, y, markers_only))


def _to_floats(values: Any) -> list[float]:
    """Return the first values as numbers; none for None, dates and names."""
    try:
        return [float("nan") if item is None else float(item) for item in islice(values, _MAX_POINTS_READ)]
    except (TypeError, ValueError):
        return []


def _trace_length(trace: Any) -> int | str:
    held = (trace._props.get(name) for name in ("y", "x", "z", "values", "r"))  # noqa: SLF001 - a trace refuses to read properties that its type lacks
    return next((len(data) for data in held if hasattr(data, "__len__") and not isinstance(data, dict | str)), "")
