"""GeoPandas frames and series: pandas tables whose geometries are well-known binary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


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
        from airflow_zen.materializers.geopandas.frames import save_geo_frame

        return save_geo_frame(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first rows, geometries as text."""
        from airflow_zen.materializers.geopandas.preview import preview_geo_frame

        return preview_geo_frame(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the frame or series."""
        from airflow_zen.materializers.geopandas.frames import load_geo_frame

        return load_geo_frame(self, directory)
