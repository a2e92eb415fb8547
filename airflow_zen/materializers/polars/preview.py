"""Previews of polars frames and series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from airflow_zen.materializers.arrow.charts import column_chart
from airflow_zen.materializers.previews.charts import Chart
from airflow_zen.materializers.previews.page import PREVIEW_HTML
from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    MAX_SAMPLED_VALUE_BYTES,
    ColumnPreview,
    cell_text,
    null_counts,
    sample_rows,
    table_page,
)


def preview_polars(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the head of a frame; a series as the one column it is."""
    frame = value.to_frame() if isinstance(value, pl.Series) else value
    picked, nulls = sample_rows(frame.height), null_counts(summary)
    columns = [
        ColumnPreview(
            name=series.name,
            type=str(series.dtype),
            cells=[_format_cell(item) for item in series.head(MAX_PREVIEW_ROWS)],
            chart=_series_chart(series, picked),
            nulls=nulls[at] if at < len(nulls) else None,
        )
        for at, series in enumerate(frame.get_columns()[:MAX_PREVIEW_COLUMNS])
    ]
    labels = [str(row) for row in range(min(frame.height, MAX_PREVIEW_ROWS))]
    shape = str(summary.get("shape", f"{frame.height} rows"))
    return {
        PREVIEW_HTML: table_page(type(value).__qualname__, shape, columns, labels, frame.width - MAX_PREVIEW_COLUMNS)
    }


def _series_chart(series: pl.Series, picked: list[int]) -> Chart | None:
    if series.estimated_size() > MAX_SAMPLED_VALUE_BYTES * max(1, len(series)):
        return None
    sample = series if len(picked) == len(series) else series.gather(picked)
    try:
        return column_chart(sample.alias("").to_arrow())
    except (pa.ArrowException, pl.exceptions.PolarsError):
        return None


def _format_cell(value: Any) -> str:
    return cell_text(value.to_list() if isinstance(value, pl.Series) and len(value) < MAX_PREVIEW_ROWS else value)
