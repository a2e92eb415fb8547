"""Previews of matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.materializers.matplotlib.drawing import render_png
from airflow_zen.materializers.previews.page import MAX_PREVIEW_BYTES, PREVIEW_PNG

_MAX_WIDTH = 1000.0
_MIN_DPI = 20.0


def preview_matplotlib_figure(figure: Any) -> Mapping[str, bytes]:
    """Draw a figure at most 1000 pixels wide, or smaller where that is too large a file."""
    width, height = figure.get_size_inches()
    dpi = min(100.0, _MAX_WIDTH / max(width, height, 1e-3))
    while len(found := render_png(figure, dpi)) > MAX_PREVIEW_BYTES and dpi > _MIN_DPI:
        dpi /= 1.5
    return {PREVIEW_PNG: found}
