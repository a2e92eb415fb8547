"""Previews of polars frames and series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from airflow_zen.materializers.arrow.charts import chart
from airflow_zen.materializers.previews.charts import Chart
from airflow_zen.materializers.previews.page import HTML
from airflow_zen.materializers.previews.tables import (
    COLUMNS,
    ROWS,
    WIDEST,
    Column,
    cell,
    nulls_of,
    sampled,
    table_page,
)


def preview(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the head of a frame; a series as the one column it is."""
    frame = value.to_frame() if isinstance(value, pl.Series) else value
    picked, nulls = sampled(frame.height), nulls_of(summary)
    columns = [
        Column(
            name=series.name,
            type=str(series.dtype),
            cells=[_cell(item) for item in series.head(ROWS)],
            chart=_chart(series, picked),
            nulls=nulls[at] if at < len(nulls) else None,
        )
        for at, series in enumerate(frame.get_columns()[:COLUMNS])
    ]
    labels = [str(row) for row in range(min(frame.height, ROWS))]
    shape = str(summary.get("shape", f"{frame.height} rows"))
    return {HTML: table_page(type(value).__qualname__, shape, columns, labels, frame.width - COLUMNS)}


def _chart(series: pl.Series, picked: list[int]) -> Chart | None:
    if series.estimated_size() > WIDEST * max(1, len(series)):
        return None
    sample = series if len(picked) == len(series) else series.gather(picked)
    try:
        return chart(sample.alias("").to_arrow())
    except (pa.ArrowException, pl.exceptions.PolarsError):
        return None


def _cell(value: Any) -> str:
    return cell(value.to_list() if isinstance(value, pl.Series) and len(value) < ROWS else value)
