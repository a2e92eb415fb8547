"""Pillow images as PNG files, or as raw pixels where PNG would change them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class PillowMaterializer(Materializer):
    """Save the pixels, mode, palette and `info` of an image.

    Refused: an image that is still bound to the file it was opened from; `image.copy()` is not.
    Shows a matplotlib figure as it was drawn.
    """

    types = ("PIL.Image.Image",)
    encoding = "pillow.png@1"
    reads = ("matplotlib.figure@1",)
    libraries = ("pillow",)
    extra = "pillow"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `image.png` or `pixels.npy`; `image.json` for what they cannot say."""
        from airflow_zen.materializers.pillow.images import save_image

        return save_image(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show a thumbnail."""
        from airflow_zen.materializers.pillow.preview import preview_image

        return preview_image(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the image, or the drawing of a figure, into memory."""
        from airflow_zen.materializers.pillow.images import load_figure_image, load_image

        return load_image(self, directory) if encoding == self.encoding else load_figure_image(directory)
