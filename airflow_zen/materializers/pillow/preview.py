"""Previews of Pillow images: a thumbnail."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from airflow_zen.materializers.previews.page import MOST_BYTES, PNG

_SIDE = 512
_SMALLEST_SIDE = 32


def preview(value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes]:
    """Give the image at most 512 pixels wide and high, or smaller where that is still too large a file."""
    if not value.width or not value.height:
        return {}
    side = _SIDE
    while len(found := _thumbnail(value, side)) > MOST_BYTES and side > _SMALLEST_SIDE:
        side //= 2
    return {PNG: found}


def _thumbnail(image: Any, side: int) -> bytes:
    scale = min(1.0, side / max(image.width, image.height))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    seen = _as_seen(image.resize(size) if size != image.size else image.copy())
    seen.info = {}
    file = io.BytesIO()
    seen.save(file, "PNG")
    return file.getvalue()


def _as_seen(image: Any) -> Any:
    """Give a mode that a browser shows: numbers without a scale of their own from the least to the greatest."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        numbers = np.nan_to_num(np.asarray(image, dtype=np.float64))
        span = np.ptp(numbers) or 1.0
        return Image.fromarray(((numbers - numbers.min()) / span * 255).astype(np.uint8))
    if image.mode in {"L", "LA", "RGB", "RGBA", "1"}:
        return image
    return image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")
