"""matplotlib figures: shown where a pickle stores them, which nothing else can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.materializers.base import Materializer


class FigurePreview(Materializer):
    """Show a figure as PNG.

    It is stored by no materializer of ours: a figure is a graph of objects that only pickle writes, in bytes
    that differ from process to process (its transforms are kept by address), and reading it back needs
    `getattr` and `functools.partial`, with which a forged file does what it likes.
    """

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Draw the figure."""
        from airflow_zen.materializers.matplotlib.preview import preview

        return preview(value)
