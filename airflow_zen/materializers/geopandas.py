"""GeoPandas frames and series: pandas tables whose geometries are well-known binary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.markup import format_count
from airflow_zen.materializers.base import Materializer, require_exact_type
from airflow_zen.materializers.previews.tables import TableColumn, preview_table
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json

if TYPE_CHECKING:
    import pandas as pd

GEO_FILE = "geo.json"

_MAX_PREVIEW_POINTS = 100


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
        require_exact_type(value, *self.types)
        parts = write_typed_json(self, _to_metadata(value), directory, GEO_FILE)
        return {"shape": format_count(len(value), "geometry", "geometries"), "rows": len(value), **parts}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the frame or series."""
        import geopandas
        import pandas as pd

        metadata = read_typed_json(self, directory, GEO_FILE)
        table = metadata["table"]
        if isinstance(table, pd.Series):
            shapes = _from_wkb(table, metadata["crs"], metadata.get("srids"))
            return _copy_attrs_and_flags(geopandas.GeoSeries(shapes, index=table.index, name=table.name), table)
        srids = metadata.get("srids", {})
        shapes_at = {at: _from_wkb(table.iloc[:, at], crs, srids.get(at)) for at, crs in metadata["geometries"]}
        columns = {at: pd.Series(shapes, index=table.index) for at, shapes in shapes_at.items()}
        frame = geopandas.GeoDataFrame(_replace_columns(table, columns))
        frame._geometry_column_name = metadata["active"]  # noqa: SLF001 - set_geometry would refuse a frame that has none
        return _copy_attrs_and_flags(frame, table)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, with geometries as text, and a chart of each other column."""
        frame = value if hasattr(value, "columns") else value.rename("geometry").to_frame()
        return preview_table(value, summary, frame.shape, _preview_columns(frame), frame.index)


def _to_metadata(frame: Any) -> dict[str, Any]:
    import pandas as pd

    if not hasattr(frame, "columns"):
        wkb, crs, srids = _encode_geometries(frame)
        metadata = {"table": _copy_attrs_and_flags(wkb, frame), "crs": crs}
        return metadata | ({} if srids is None else {"srids": srids})
    places = [at for at, dtype in enumerate(frame.dtypes) if dtype.name == "geometry"]
    encoded = {at: _encode_geometries(frame.iloc[:, at]) for at in places}
    table = _replace_columns(pd.DataFrame(frame), {at: wkb for at, (wkb, _, _) in encoded.items()})
    metadata = {
        "table": _copy_attrs_and_flags(table, frame),
        "geometries": [(at, crs) for at, (_, crs, _) in encoded.items()],
        "active": frame._geometry_column_name,  # noqa: SLF001
    }
    srids = {at: numbers for at, (_, _, numbers) in encoded.items() if numbers is not None}
    return metadata | ({"srids": srids} if srids else {})


def _replace_columns(table: pd.DataFrame, columns: Mapping[int, Any]) -> pd.DataFrame:
    """Return the table with other columns at some positions; names may occur twice."""
    import pandas as pd

    if not table.shape[1]:
        return table
    held = [columns[at] if at in columns else table.iloc[:, at] for at in range(table.shape[1])]
    joined: pd.DataFrame = pd.concat(held, axis=1)
    joined.columns = table.columns
    return joined


def _copy_attrs_and_flags(table: Any, like: Any) -> Any:
    table.attrs = dict(like.attrs)
    return table.set_flags(allows_duplicate_labels=like.flags.allows_duplicate_labels)


def _encode_geometries(series: Any) -> tuple[pd.Series[Any], str | None, Any]:
    """Return geometries as well-known binary, their reference system, and its number for each geometry.

    ISO WKB does not contain the numbers; they are None where all are 0.
    """
    import pandas as pd
    import shapely

    shapes = series.array._data  # noqa: SLF001 - to_numpy would copy
    if (shapely.get_type_id(shapes) == shapely.GeometryType.LINEARRING).any():
        raise SaveRefused(
            f"Well-known binary has no LinearRing (in {series.name!r}): it would come back as a LineString. Convert it "
            f"with shapely.LineString(ring) or shapely.Polygon(ring)."
        )
    wkb = pd.Series(shapely.to_wkb(shapes, flavor="iso"), index=series.index, name=series.name, dtype=object)
    numbers, crs = shapely.get_srid(shapes), series.array.crs
    numbers[shapely.is_missing(shapes)] = 0
    return wkb, None if crs is None else str(crs.srs), numbers if numbers.any() else None


def _from_wkb(table: pd.Series[Any], crs: str | None, srids: Any) -> Any:
    import geopandas
    import pyproj
    import shapely

    shapes = shapely.from_wkb(table.to_numpy())
    shapes = shapes if srids is None else shapely.set_srid(shapes, srids)
    return geopandas.array.GeometryArray(shapes, crs=None if crs is None else pyproj.CRS.from_user_input(crs))


def _preview_columns(frame: Any) -> Iterator[TableColumn]:
    import pandas as pd

    from airflow_zen.materializers.pandas.frames import frame_columns

    for at, column in enumerate(frame_columns(pd.DataFrame(frame), list(frame.columns))):
        if column.type == "geometry":
            crs = frame.iloc[:, at].crs
            kind = f"geometry · {crs.to_string() if crs else 'no reference system'}"
            yield TableColumn(column.name, kind, map(_geometry_text, column.head))
        else:
            yield column


def _geometry_text(value: Any) -> str:
    import shapely

    # A cell shows only the beginning of a text, and that of a coastline is long.
    points = shapely.get_num_coordinates(value)
    is_long = points > _MAX_PREVIEW_POINTS
    return f"{value.geom_type} of {points} points" if is_long else str(shapely.to_wkt(value, rounding_precision=4))
