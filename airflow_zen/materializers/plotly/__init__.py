"""Plotly figures as typed JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.tree import read_typed_json, write_typed_json

FIGURE_FILE = "figure.json"


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
        summary = {"shape": f"{len(value.data)} {'trace' if len(value.data) == 1 else 'traces'}"}
        return {**summary, "parts": parts} if parts else summary

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the traces, and a sketch of lines, points and bars."""
        from airflow_zen.materializers.plotly.preview import preview_plotly_figure

        return preview_plotly_figure(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the figure."""
        from plotly.graph_objects import Figure

        return Figure(read_typed_json(self, directory, FIGURE_FILE))


def _figure_properties(figure: Any) -> dict[str, Any]:
    """Give the properties as they were set: `to_plotly_json` makes base64 of arrays, and smaller dtypes."""
    frames = [frame._props for frame in figure._frame_objs]  # noqa: SLF001 - nothing public gives the arrays
    held = {"data": figure._data, "layout": figure._layout, **({"frames": frames} if frames else {})}  # noqa: SLF001
    try:
        return {name: _sort_keys(node) for name, node in held.items()}
    except TypeError as error:
        raise SaveRefused(
            f"A figure is stored with its keys in order, and some have none: {error}. Use strings as keys, in meta too."
        ) from error


def _sort_keys(node: Any) -> Any:
    """Order all keys: to a figure their order means nothing, and plotly changes it."""
    if isinstance(node, dict):
        return {key: _sort_keys(item) for key, item in sorted(node.items())}
    return [_sort_keys(item) for item in node] if type(node) is list else node
