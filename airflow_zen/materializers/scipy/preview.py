"""Previews of sparse arrays: how full they are, and where their entries lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from airflow_zen.materializers.previews.page import PREVIEW_HTML, Markup, heading, html_page
from airflow_zen.materializers.previews.png import encode_png, img_tag
from airflow_zen.materializers.previews.tables import plain_table

_MAX_SIDE = 200
_MAX_ENTRIES = 1_000_000


def preview_sparse_array(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a sparse array or matrix."""
    return {
        PREVIEW_HTML: html_page(
            type(value).__qualname__, f"{value.dtype} · shape {value.shape}", _matrix_sections(value)
        )
    }


def _matrix_sections(value: Any) -> Iterator[Markup]:
    cells = float(np.prod(value.shape, dtype=np.float64))
    facts = [("entries", value.nnz), ("filled", f"{value.nnz / cells:.4%}" if cells else "")]
    yield plain_table(["", ""], facts)
    if value.ndim == 2 and cells and value.nnz <= _MAX_ENTRIES:
        yield heading("Where the entries lie")
        pixels = _density_pixels(value.tocoo())
        yield img_tag(encode_png(pixels.shape[1], pixels.shape[0], 1, pixels.tobytes()), max(200, pixels.shape[1]))


def _density_pixels(value: Any) -> Any:
    """Count entries in at most 200 × 200 squares; the fuller, the darker."""
    height, width = (min(_MAX_SIDE, size) for size in value.shape)
    rows = value.row.astype(np.float64) * height // value.shape[0]
    columns = value.col.astype(np.float64) * width // value.shape[1]
    counts = np.zeros((height, width))
    np.add.at(counts, (rows.astype(np.int64), columns.astype(np.int64)), 1)
    shade = np.sqrt(counts / max(1.0, counts.max()))
    return np.ascontiguousarray(255 - (shade * 255).astype(np.uint8))
