"""Previews of Pillow images: a thumbnail."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from airflow_zen.materializers.previews.page import MAX_PREVIEW_BYTES, PREVIEW_PNG

_MAX_SIDE = 512
_MIN_SIDE = 32


def preview_image(value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes]:
    """Give the image at most 512 pixels wide and high, or smaller where that is still too large a file."""
    if not value.width or not value.height:
        return {}
    side = _MAX_SIDE
    while len(found := _thumbnail(value, side)) > MAX_PREVIEW_BYTES and side > _MIN_SIDE:
        side //= 2
    return {PREVIEW_PNG: found}


def _thumbnail(image: Any, side: int) -> bytes:
    scale = min(1.0, side / max(image.width, image.height))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    seen = _to_browser_mode(image.resize(size) if size != image.size else image.copy())
    seen.info = {}
    file = io.BytesIO()
    seen.save(file, "PNG")
    return file.getvalue()


def _to_browser_mode(image: Any) -> Any:
    """Give a mode that a browser shows: numbers without a scale of their own from the least to the greatest."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        numbers = np.nan_to_num(np.asarray(image, dtype=np.float64))
        span = np.ptp(numbers) or 1.0
        return Image.fromarray(((numbers - numbers.min()) / span * 255).astype(np.uint8))
    if image.mode in {"L", "LA", "RGB", "RGBA", "1"}:
        return image
    return image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")
