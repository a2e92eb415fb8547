"""xarray datasets and data arrays as one `.npy` file for each variable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class XarrayMaterializer(Materializer):
    """Save dimensions, variables, coordinates, indexes, attributes and encodings exactly, which netCDF would not.

    Refused: variables that are not in memory as NumPy arrays (dask), and indexes that are not pandas'.
    """

    types = ("xarray.Dataset", "xarray.DataArray")
    encoding = "xarray.npy@1"
    libraries = ("xarray", "numpy", "pandas")
    extra = "xarray"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `dataset.json`, and arrays and indexes beside it as parts."""
        from airflow_zen.materializers.xarray.datasets import save_xarray

        return save_xarray(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show dimensions, coordinates and variables."""
        from airflow_zen.materializers.xarray.preview import preview_xarray

        return preview_xarray(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the dataset into memory."""
        from airflow_zen.materializers.xarray.datasets import load_xarray

        return load_xarray(self, directory)
