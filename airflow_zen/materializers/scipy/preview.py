"""Previews of sparse arrays: how full they are, and where their entries lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from airflow_zen.materializers.previews.page import HTML, Markup, heading, page
from airflow_zen.materializers.previews.png import png, shown_inside
from airflow_zen.materializers.previews.tables import plain_table

_SIDE = 200
_MOST_ENTRIES = 1_000_000


def preview(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a sparse array or matrix."""
    return {HTML: page(type(value).__qualname__, f"{value.dtype} · shape {value.shape}", _sections(value))}


def _sections(value: Any) -> Iterator[Markup]:
    cells = float(np.prod(value.shape, dtype=np.float64))
    facts = [("entries", value.nnz), ("filled", f"{value.nnz / cells:.4%}" if cells else "")]
    yield plain_table(["", ""], facts)
    if value.ndim == 2 and cells and value.nnz <= _MOST_ENTRIES:
        yield heading("Where the entries lie")
        pixels = _pixels(value.tocoo())
        yield shown_inside(png(pixels.shape[1], pixels.shape[0], 1, pixels.tobytes()), max(200, pixels.shape[1]))


def _pixels(value: Any) -> Any:
    """Count entries in at most 200 × 200 squares; the fuller, the darker."""
    height, width = (min(_SIDE, size) for size in value.shape)
    rows = value.row.astype(np.float64) * height // value.shape[0]
    columns = value.col.astype(np.float64) * width // value.shape[1]
    counts = np.zeros((height, width))
    np.add.at(counts, (rows.astype(np.int64), columns.astype(np.int64)), 1)
    shade = np.sqrt(counts / max(1.0, counts.max()))
    return np.ascontiguousarray(255 - (shade * 255).astype(np.uint8))
