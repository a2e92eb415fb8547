"""GeoPandas frames and series: pandas tables whose geometries are well-known binary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.tables import TableColumn, preview_table
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    import pandas as pd


class GeopandasMaterializer(Materializer):
    """Save geometries as ISO WKB in a pandas table, with the reference system of each geometry column.

    Refused: subclasses of `GeoDataFrame` and `GeoSeries`; `LinearRing`, which well-known binary does not have.
    """

    types = ("geopandas.GeoDataFrame", "geopandas.GeoSeries")
    encoding = "geopandas.wkb@1"
    libraries = ("geopandas", "pandas", "pyarrow", "pyproj", "shapely")
    extra = "geopandas"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `geo.json`, and the table as a part of encoding `pandas.parquet@1`."""
        return save_geo_frame(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, geometries as text."""
        return preview_geo_frame(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the frame or series."""
        return load_geo_frame(self, directory)


GEO_FILE = "geo.json"


def save_geo_frame(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a frame or series; raises `SaveRefused` when its class would not come back."""
    import geopandas
    import pandas as pd

    if type(value) not in (geopandas.GeoDataFrame, geopandas.GeoSeries):
        raise SaveRefused(f"{type_name(type(value))} is a subclass that would come back as its base class.")
    metadata = _frame_metadata(value) if isinstance(value, pd.DataFrame) else _series_metadata(value)
    parts = write_typed_json(materializer, metadata, directory, GEO_FILE)
    rows = f"{len(value)} {'geometry' if len(value) == 1 else 'geometries'}"
    return {"shape": rows, "rows": len(value), "parts": parts}


def load_geo_frame(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_geo_frame` wrote."""
    import geopandas
    import pandas as pd

    metadata = read_typed_json(materializer, directory, GEO_FILE)
    table = metadata["table"]
    if isinstance(table, pd.Series):
        shapes = _from_wkb(table, metadata["crs"], metadata.get("srids"))
        series = geopandas.GeoSeries(shapes, index=table.index, name=table.name)
        return _copy_attrs_and_flags(series, table)
    srids = metadata.get("srids", {})
    columns = {place: _from_wkb(table.iloc[:, place], crs, srids.get(place)) for place, crs in metadata["geometries"]}
    held = [
        pd.Series(columns[place], index=table.index) if place in columns else table.iloc[:, place]
        for place in range(table.shape[1])
    ]
    joined = pd.concat(held, axis=1) if held else table
    joined.columns = table.columns
    frame = geopandas.GeoDataFrame(joined)
    frame._geometry_column_name = metadata["active"]  # noqa: SLF001 - set_geometry would refuse a frame that has none
    return _copy_attrs_and_flags(frame, table)


def _frame_metadata(frame: Any) -> dict[str, Any]:
    import geopandas
    import pandas as pd

    places = [place for place, dtype in enumerate(frame.dtypes) if isinstance(dtype, geopandas.array.GeometryDtype)]
    table = pd.DataFrame(frame)
    held = [
        _to_wkb(table.iloc[:, place]) if place in places else table.iloc[:, place]
        for place in range(len(table.columns))
    ]
    joined = pd.concat(held, axis=1) if held else table
    joined.columns = table.columns
    geometries = [(place, _crs_text(frame.iloc[:, place])) for place in places]
    metadata = {
        "table": _copy_attrs_and_flags(joined, frame),
        "geometries": geometries,
        "active": frame._geometry_column_name,  # noqa: SLF001
    }
    srids = {place: _srids(frame.iloc[:, place]) for place in places}
    given = {place: numbers for place, numbers in srids.items() if numbers is not None}
    return {**metadata, "srids": given} if given else metadata


def _series_metadata(series: Any) -> dict[str, Any]:
    metadata = {"table": _copy_attrs_and_flags(_to_wkb(series), series), "crs": _crs_text(series)}
    srids = _srids(series)
    return metadata if srids is None else {**metadata, "srids": srids}


def _copy_attrs_and_flags(table: Any, like: Any) -> Any:
    table.attrs = dict(like.attrs)
    return table.set_flags(allows_duplicate_labels=like.flags.allows_duplicate_labels)


def _to_wkb(series: Any) -> pd.Series[Any]:
    import pandas as pd
    import shapely

    shapes = series.array._data  # noqa: SLF001 - to_numpy would copy
    if (shapely.get_type_id(shapes) == shapely.GeometryType.LINEARRING).any():
        raise SaveRefused(
            f"Well-known binary has no LinearRing (in {series.name!r}): it would come back as a LineString. Convert it "
            f"with shapely.LineString(ring) or shapely.Polygon(ring)."
        )
    wkb = shapely.to_wkb(shapes, flavor="iso")
    return pd.Series(wkb, index=series.index, name=series.name, dtype=object)


def _srids(series: Any) -> Any:
    """Give the reference system number of each geometry, which ISO WKB has no place for; None where none has one."""
    import shapely

    shapes = series.array._data  # noqa: SLF001 - to_numpy would copy
    numbers = shapely.get_srid(shapes)
    numbers[shapely.is_missing(shapes)] = 0
    return numbers if numbers.any() else None


def _crs_text(series: Any) -> str | None:
    return str(series.array.crs.srs) if series.array.crs is not None else None


def _from_wkb(table: pd.Series[Any], crs: str | None, srids: Any) -> Any:
    import geopandas
    import pyproj
    import shapely

    known = pyproj.CRS.from_user_input(crs) if crs is not None else None
    shapes = shapely.from_wkb(table.to_numpy())
    shapes = shapes if srids is None else shapely.set_srid(shapes, srids)
    return geopandas.array.GeometryArray(shapes, crs=known)


# Of a coastline only as much is written as a cell shows.
_MAX_POINTS = 100


def preview_geo_frame(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the first rows, and a chart of each column that is no geometry."""
    frame = value if hasattr(value, "columns") else value.rename("geometry").to_frame()
    return preview_table(value, summary, frame.shape, _preview_columns(frame), frame.index)


def _preview_columns(frame: Any) -> Iterator[TableColumn]:
    import pandas as pd

    from airflow_zen.materializers.pandas.preview import frame_columns

    for at, column in enumerate(frame_columns(pd.DataFrame(frame), list(frame.columns))):
        if column.type == "geometry":
            crs = frame.iloc[:, at].crs
            kind = f"geometry · {crs.to_string() if crs else 'no reference system'}"
            yield TableColumn(column.name, kind, map(_geometry_text, column.head))
        else:
            yield column


def _geometry_text(value: Any) -> str:
    import shapely

    if value is None or shapely.get_num_coordinates(value) > _MAX_POINTS:
        return "None" if value is None else f"{value.geom_type} of {shapely.get_num_coordinates(value)} points"
    return str(shapely.to_wkt(value, rounding_precision=4))
