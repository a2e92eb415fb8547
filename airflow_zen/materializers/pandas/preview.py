"""Previews of pandas frames, series and indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
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
    """Show the head of a frame; a series and an index as the one column they are."""
    frame, names = _frame(value)
    labels = [cell(label) for label in frame.index[:ROWS]]
    shape = str(summary.get("shape", f"{len(frame)} rows"))
    return {
        HTML: table_page(
            type(value).__qualname__, shape, columns(frame, names, summary), labels, frame.shape[1] - COLUMNS
        )
    }


def columns(frame: pd.DataFrame, names: Sequence[Any], summary: Mapping[str, Any]) -> list[Column]:
    """Give the first columns as they are shown."""
    picked, nulls = sampled(len(frame)), nulls_of(summary)
    shown = []
    for at in range(min(frame.shape[1], COLUMNS)):
        series = frame.iloc[:, at]
        shown.append(
            Column(
                name=str(names[at]),
                type=str(series.dtype),
                cells=[cell(item) for item in series.iloc[:ROWS]],
                chart=_chart(series if len(picked) == len(series) else series.iloc[picked])
                if _is_narrow(series)
                else None,
                nulls=nulls[at] if at < len(nulls) else None,
            )
        )
    return shown


def _frame(value: Any) -> tuple[pd.DataFrame, Sequence[Any]]:
    """Give the columns, and their names apart: as names of columns pandas does not take all of them."""
    if isinstance(value, pd.DataFrame):
        return value, list(value.columns[:COLUMNS])
    if isinstance(value, pd.Series):
        return value.rename(0).to_frame(), [value.name]
    frame = value.to_frame(index=False, name=list(range(value.nlevels)) if value.nlevels > 1 else 0)
    return frame, list(value.names)


def _chart(series: pd.Series) -> Chart | None:
    if series.dtype == object and sum(len(item) for item in series if isinstance(item, str)) > WIDEST * len(series):
        return None
    try:
        zoned = isinstance(series.dtype, pd.DatetimeTZDtype)
        return chart(pa.array(series.dt.tz_localize(None) if zoned else series, from_pandas=True))
    except (pa.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError):
        return None  # objects of several kinds


def _is_narrow(series: pd.Series) -> bool:
    return bool(series.array.nbytes <= WIDEST * max(1, len(series)))
