"""Previews of GeoPandas frames and series: tables whose geometries are well-known text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import shapely

from airflow_zen.materializers.pandas.preview import preview_columns
from airflow_zen.materializers.previews.page import PREVIEW_HTML
from airflow_zen.materializers.previews.tables import (
    MAX_PREVIEW_COLUMNS,
    MAX_PREVIEW_ROWS,
    ColumnPreview,
    cell_text,
    table_page,
)

# Of a coastline only as much is written as a cell shows.
_MAX_POINTS = 100


def preview_geo_frame(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the first rows, and a chart of each column that is no geometry."""
    frame = value if hasattr(value, "columns") else value.rename("geometry").to_frame()
    shown = [_column_preview(frame, at) for at in range(min(frame.shape[1], MAX_PREVIEW_COLUMNS))]
    labels = [cell_text(label) for label in frame.index[:MAX_PREVIEW_ROWS]]
    shape = str(summary.get("shape", f"{len(frame)} rows"))
    return {
        PREVIEW_HTML: table_page(type(value).__qualname__, shape, shown, labels, frame.shape[1] - MAX_PREVIEW_COLUMNS)
    }


def _column_preview(frame: Any, at: int) -> ColumnPreview:
    series, name = frame.iloc[:, at], frame.columns[at]
    if str(series.dtype) != "geometry":
        (plain,) = preview_columns(pd.DataFrame({0: pd.Series(series)}), [name], {})
        return plain
    kind = f"geometry · {series.crs.to_string() if series.crs else 'no reference system'}"
    return ColumnPreview(str(name), kind, [_geometry_text(item) for item in series.iloc[:MAX_PREVIEW_ROWS]])


def _geometry_text(value: Any) -> str:
    if value is None or shapely.get_num_coordinates(value) > _MAX_POINTS:
        return cell_text(None if value is None else f"{value.geom_type} of {shapely.get_num_coordinates(value)} points")
    return cell_text(shapely.to_wkt(value, rounding_precision=4))
