"""Geometries to well-known binary and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyproj
import shapely

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.tree import read_tree, write_tree

FILE = "geo.json"


def save_frame(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame or series; raises `SaveRefused` when its class would not come back."""
    if type(value) not in (geopandas.GeoDataFrame, geopandas.GeoSeries):
        raise SaveRefused(f"{type_name(type(value))} is a subclass that would come back as its base class.")
    note = _frame_note(value) if isinstance(value, pd.DataFrame) else _series_note(value)
    parts = write_tree(materializer, note, directory, FILE)
    rows = f"{len(value)} {'geometry' if len(value) == 1 else 'geometries'}"
    return {"shape": rows, "rows": len(value), "parts": parts}


def load_frame(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_frame` wrote."""
    note = read_tree(materializer, directory, FILE)
    table = note["table"]
    if isinstance(table, pd.Series):
        series = geopandas.GeoSeries(_geometries(table, note["crs"]), index=table.index, name=table.name)
        series.attrs = table.attrs
        return series
    columns = {place: _geometries(table.iloc[:, place], crs) for place, crs in note["geometries"]}
    held = [
        pd.Series(columns[place], index=table.index) if place in columns else table.iloc[:, place]
        for place in range(table.shape[1])
    ]
    joined = pd.concat(held, axis=1) if held else table
    joined.columns = table.columns
    frame = geopandas.GeoDataFrame(joined)
    frame._geometry_column_name = note["active"]  # noqa: SLF001 - set_geometry would refuse a frame that has none
    frame.attrs = table.attrs
    return frame


def _frame_note(frame: Any) -> dict[str, Any]:
    places = [place for place, dtype in enumerate(frame.dtypes) if isinstance(dtype, geopandas.array.GeometryDtype)]
    table = pd.DataFrame(frame)
    held = [
        _bytes(table.iloc[:, place]) if place in places else table.iloc[:, place] for place in range(len(table.columns))
    ]
    joined = pd.concat(held, axis=1) if held else table
    joined.columns, joined.attrs = table.columns, dict(frame.attrs)
    geometries = [(place, _crs(frame.iloc[:, place])) for place in places]
    return {"table": joined, "geometries": geometries, "active": frame._geometry_column_name}  # noqa: SLF001


def _series_note(series: Any) -> dict[str, Any]:
    table = _bytes(series)
    table.attrs = dict(series.attrs)
    return {"table": table, "crs": _crs(series)}


def _bytes(series: Any) -> pd.Series[Any]:
    wkb = shapely.to_wkb(series.array._data, flavor="iso")  # noqa: SLF001 - to_numpy would copy
    return pd.Series(wkb, index=series.index, name=series.name, dtype=object)


def _crs(series: Any) -> str | None:
    return str(series.array.crs.srs) if series.array.crs is not None else None


def _geometries(table: pd.Series[Any], crs: str | None) -> Any:
    known = pyproj.CRS.from_user_input(crs) if crs is not None else None
    return geopandas.array.GeometryArray(shapely.from_wkb(table.to_numpy()), crs=known)
