"""Previews of NumPy arrays: shape, dtype, a histogram, and a picture of what could be one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from airflow_zen.materializers.previews.charts import BINS, bar_chart
from airflow_zen.materializers.previews.page import PREVIEW_HTML, Markup, heading, html_page, preformatted
from airflow_zen.materializers.previews.png import encode_png, img_tag
from airflow_zen.materializers.previews.tables import MAX_SAMPLED_ROWS, sample_rows

# A larger picture may not fit beside everything else that a page holds.
_MAX_PIXELS = 256 * 256
_CHANNELS = (3, 4)


def preview_array(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show an array."""
    subtitle = f"{value.dtype} · shape {value.shape}"
    return {PREVIEW_HTML: html_page(type(value).__qualname__, subtitle, _sections(value))}


def _sections(value: Any) -> Iterator[Markup]:
    pixels = _to_pixels(value)
    if pixels is not None:
        height, width = pixels.shape[:2]
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        yield heading("As a picture")
        yield img_tag(encode_png(width, height, channels, pixels.tobytes()), max(width, min(512, 16 * width)))
    if value.dtype.kind in "biuf" and value.size:
        yield from _histogram(_sample_values(value))
    if value.dtype.kind != "O":
        yield heading("Values")
        with np.printoptions(threshold=200, edgeitems=3):
            text = str(value)
        yield preformatted(text, 4_000)


def _histogram(values: Any) -> Iterator[Markup]:
    values = values[np.isfinite(values)]
    if not values.size or not np.isfinite(values.max() - values.min()):
        return
    try:
        counts, edges = np.histogram(values, bins=BINS)
    except ValueError:
        return  # numbers so large and so close that no float lies between them
    names = [f"{low:.4g} – {high:.4g}" for low, high in pairwise(edges)]
    yield heading(f"Distribution of {'all' if values.size < MAX_SAMPLED_ROWS else MAX_SAMPLED_ROWS} values")
    yield bar_chart([(name, float(count)) for name, count in zip(names, counts, strict=True)])


def _sample_values(value: Any) -> Any:
    """Give some values as floats, without a copy of the whole array."""
    flat: Any = value.compressed().flat if np.ma.isMaskedArray(value) else np.asarray(value).flat
    return np.asarray(flat[sample_rows(len(flat))], dtype=np.float64)


def _to_pixels(value: Any) -> Any:
    """Give a small matrix as bytes of gray, and what has three or four channels of bytes as it is; else None."""
    if np.ma.isMaskedArray(value) or value.ndim < 2 or min(value.shape[:2]) < 4:
        return None
    if value.shape[0] * value.shape[1] > _MAX_PIXELS or value.dtype.kind not in "biuf":
        return None
    if value.ndim == 3 and value.shape[2] in _CHANNELS and value.dtype == np.uint8:
        return np.ascontiguousarray(value)
    return _to_grayscale(value.astype(np.float64)) if value.ndim == 2 else None


def _to_grayscale(numbers: Any) -> Any:
    finite = numbers[np.isfinite(numbers)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    span = high - low if np.isfinite(high - low) and high > low else 1.0
    scaled = np.nan_to_num((numbers - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    return np.ascontiguousarray(np.clip(scaled * 255, 0, 255).astype(np.uint8))
