"""Previews of pandas frames, series and indexes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    MAX_SAMPLED_VALUE_BYTES,
    TableColumn,
    preview_table,
)


def preview_pandas(value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
    """Return the page of a frame; a series and an index are shown as frames of their own columns."""
    frame, names = _to_frame(value)
    return preview_table(value, summary, frame.shape, frame_columns(frame, names), frame.index)


def frame_columns(frame: pd.DataFrame, names: Sequence[Any]) -> Iterator[TableColumn]:
    """Iterate over the columns of a frame that have `names`, as a preview shows them."""
    for at, name in enumerate(names):
        series = frame.iloc[:, at]
        head, size = series.iloc[:MAX_PREVIEW_ROWS], series.array.nbytes
        yield TableColumn(str(name), str(series.dtype), head, size, partial(_sample_to_arrow, series))


def _to_frame(value: Any) -> tuple[pd.DataFrame, Sequence[Any]]:
    """Return the columns and, apart from them, their names: not every name of an index can be that of a column."""
    if isinstance(value, pd.DataFrame):
        return value, list(value.columns[:MAX_PREVIEW_COLUMNS])
    if isinstance(value, pd.Series):
        return value.rename(0).to_frame(), [value.name]
    frame = value.to_frame(index=False, name=list(range(value.nlevels)) if value.nlevels > 1 else 0)
    return frame, list(value.names)


def _sample_to_arrow(series: pd.Series, rows: list[int]) -> pa.Array:
    values = series.iloc[rows]
    if values.dtype == object and sum(
        len(item) for item in values if isinstance(item, str)
    ) > MAX_SAMPLED_VALUE_BYTES * len(values):
        raise ValueError("The texts are too long for a chart.")
    zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
    return pa.array(values.dt.tz_localize(None) if zoned else values, from_pandas=True)
