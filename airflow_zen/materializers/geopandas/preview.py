"""Previews of GeoPandas frames and series: tables whose geometries are well-known text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import shapely

from airflow_zen.materializers.pandas.preview import columns
from airflow_zen.materializers.previews.page import HTML
from airflow_zen.materializers.previews.tables import COLUMNS, ROWS, Column, cell, table_page

# Of a coastline only as much is written as a cell shows.
_MOST_POINTS = 100


def preview(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the first rows, and a chart of each column that is no geometry."""
    frame = value if hasattr(value, "columns") else value.rename("geometry").to_frame()
    shown = [_column(frame, at) for at in range(min(frame.shape[1], COLUMNS))]
    labels = [cell(label) for label in frame.index[:ROWS]]
    shape = str(summary.get("shape", f"{len(frame)} rows"))
    return {HTML: table_page(type(value).__qualname__, shape, shown, labels, frame.shape[1] - COLUMNS)}


def _column(frame: Any, at: int) -> Column:
    series, name = frame.iloc[:, at], frame.columns[at]
    if str(series.dtype) != "geometry":
        (plain,) = columns(pd.DataFrame({0: pd.Series(series)}), [name], {})
        return plain
    kind = f"geometry · {series.crs.to_string() if series.crs else 'no reference system'}"
    return Column(str(name), kind, [_geometry(item) for item in series.iloc[:ROWS]])


def _geometry(value: Any) -> str:
    if value is None or shapely.get_num_coordinates(value) > _MOST_POINTS:
        return cell(None if value is None else f"{value.geom_type} of {shapely.get_num_coordinates(value)} points")
    return cell(shapely.to_wkt(value, rounding_precision=4))
