"""Previews of pandas frames, series and indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from airflow_zen.materializers.arrow.charts import column_chart
from airflow_zen.materializers.previews.html import PREVIEW_HTML
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

if TYPE_CHECKING:
    from airflow_zen.materializers.previews.charts import Chart


def preview_pandas(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the head of a frame; a series and an index as the one column they are."""
    frame, names = _to_frame(value)
    labels = [cell_text(label) for label in frame.index[:MAX_PREVIEW_ROWS]]
    shape = str(summary.get("shape", f"{len(frame)} rows"))
    return {
        PREVIEW_HTML: table_page(
            type(value).__qualname__,
            shape,
            preview_columns(frame, names, summary),
            labels,
            frame.shape[1] - MAX_PREVIEW_COLUMNS,
        )
    }


def preview_columns(frame: pd.DataFrame, names: Sequence[Any], summary: Mapping[str, Any]) -> list[ColumnPreview]:
    """Give the first columns as they are shown."""
    picked, nulls = sample_rows(len(frame)), null_counts(summary)
    shown = []
    for at in range(min(frame.shape[1], MAX_PREVIEW_COLUMNS)):
        series = frame.iloc[:, at]
        shown.append(
            ColumnPreview(
                name=str(names[at]),
                type=str(series.dtype),
                cells=[cell_text(item) for item in series.iloc[:MAX_PREVIEW_ROWS]],
                chart=_series_chart(series if len(picked) == len(series) else series.iloc[picked])
                if _is_narrow(series)
                else None,
                nulls=nulls[at] if at < len(nulls) else None,
            )
        )
    return shown


def _to_frame(value: Any) -> tuple[pd.DataFrame, Sequence[Any]]:
    """Give the columns, and their names apart: as names of columns pandas does not take all of them."""
    if isinstance(value, pd.DataFrame):
        return value, list(value.columns[:MAX_PREVIEW_COLUMNS])
    if isinstance(value, pd.Series):
        return value.rename(0).to_frame(), [value.name]
    frame = value.to_frame(index=False, name=list(range(value.nlevels)) if value.nlevels > 1 else 0)
    return frame, list(value.names)


def _series_chart(series: pd.Series) -> Chart | None:
    if series.dtype == object and sum(
        len(item) for item in series if isinstance(item, str)
    ) > MAX_SAMPLED_VALUE_BYTES * len(series):
        return None
    try:
        zoned = isinstance(series.dtype, pd.DatetimeTZDtype)
        return column_chart(pa.array(series.dt.tz_localize(None) if zoned else series, from_pandas=True))
    except (pa.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError):
        return None  # objects of several kinds


def _is_narrow(series: pd.Series) -> bool:
    return bool(series.array.nbytes <= MAX_SAMPLED_VALUE_BYTES * max(1, len(series)))
