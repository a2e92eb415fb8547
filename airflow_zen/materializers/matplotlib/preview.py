"""Previews of matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.materializers.matplotlib.drawing import png
from airflow_zen.materializers.previews.page import MOST_BYTES, PNG

_WIDEST = 1000.0
_LEAST_DPI = 20.0


def preview(figure: Any) -> Mapping[str, bytes]:
    """Draw a figure at most 1000 pixels wide, or smaller where that is too large a file."""
    width, height = figure.get_size_inches()
    dpi = min(100.0, _WIDEST / max(width, height, 1e-3))
    while len(found := png(figure, dpi)) > MOST_BYTES and dpi > _LEAST_DPI:
        dpi /= 1.5
    return {PNG: found}
