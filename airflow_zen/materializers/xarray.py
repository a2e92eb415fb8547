"""xarray datasets and data arrays as one `.npy` file for each variable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import PREVIEW_HTML, html_page, preformatted
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


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
        return save_xarray(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show dimensions, coordinates and variables."""
        return preview_xarray(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the dataset into memory."""
        return load_xarray(self, directory)


DATASET_FILE = "dataset.json"

# A data array is stored as a dataset of one variable, whose name no user's coordinate has.
_ARRAY_NAME = "<airflow_zen: the values>"


def save_xarray(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a dataset or data array; raises `SaveRefused` when it would not come back exactly."""
    import xarray as xr

    if type(value) not in (xr.Dataset, xr.DataArray):
        raise SaveRefused(f"{type_name(type(value))} is a subclass that would come back as its base class.")
    metadata = _dataset_metadata(value)
    if not _is_identical(value, _build_dataset(metadata)):
        raise SaveRefused(
            f"This xarray.{type(value).__qualname__} would not come back exactly. Its indexes must be those that "
            f"xarray makes of its coordinates; drop_indexes() takes away the others."
        )
    parts = write_typed_json(materializer, metadata, directory, DATASET_FILE)
    sizes = " × ".join(f"{name} {size}" for name, size in value.sizes.items())
    return {"shape": f"{type(value).__qualname__} of {sizes or 'one value'}", "parts": parts}


def load_xarray(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_xarray` wrote."""
    return _build_dataset(read_typed_json(materializer, directory, DATASET_FILE))


def _dataset_metadata(value: Any) -> dict[str, Any]:
    import pandas as pd
    import xarray as xr

    is_array = isinstance(value, xr.DataArray)
    dataset = value.rename(None).to_dataset(name=_ARRAY_NAME) if is_array else value
    indexes = dict(dataset.indexes)
    multi = {name: index for name, index in indexes.items() if isinstance(index, pd.MultiIndex)}
    return {
        "kind": type(value).__qualname__,
        "name": value.name if is_array else None,
        "attrs": dict(dataset.attrs),
        "encoding": dict(dataset.encoding),
        "variables": {
            name: _variable_metadata(name, dataset.variables[name], indexes)
            for name in dataset.variables
            if name not in multi
        },
        "order": [list(dataset.data_vars), list(dataset.coords)],
        "multi": {
            name: {"index": index, "attrs": dict(dataset[name].attrs)}
            for name, index in multi.items()
            if name in dataset.dims
        },
        "unindexed": [name for name in dataset.coords if name in dataset.dims and name not in indexes],
    }


def _variable_metadata(name: Any, variable: xr.Variable, indexes: Mapping[Any, pd.Index]) -> dict[str, Any]:
    import numpy as np
    import xarray as xr

    held = variable.values if isinstance(variable, xr.IndexVariable) else variable.data
    if not isinstance(held, np.ndarray):
        remedy = (
            "Call .compute() first." if hasattr(held, "compute") else f"Convert it: value[{name!r}].astype(object)."
        )
        raise SaveRefused(f"The variable {name!r} is a {type_name(type(held))}, no NumPy array. {remedy}")
    # Text keeps its width only as an array; times keep their frequency only as an index.
    if name in indexes and variable.dtype.kind not in "US":
        held = indexes[name]
    return {"dims": variable.dims, "held": held, "attrs": dict(variable.attrs), "encoding": dict(variable.encoding)}


def _build_dataset(metadata: Mapping[str, Any]) -> Any:
    import xarray as xr

    data_vars, coords = metadata["order"]
    variables = {name: _build_variable(held) for name, held in metadata["variables"].items()}
    built = xr.Dataset(
        {name: variables[name] for name in data_vars}, coords=_build_coordinates(metadata, coords, variables)
    )
    for dim, held in metadata["multi"].items():
        built[dim].attrs.update(held["attrs"])
    built.attrs, built.encoding = dict(metadata["attrs"]), dict(metadata["encoding"])
    return built if metadata["kind"] == "Dataset" else built[_ARRAY_NAME].rename(metadata["name"])


def _build_coordinates(metadata: Mapping[str, Any], names: list[Any], variables: Mapping[Any, xr.Variable]) -> Any:
    """Give the coordinates in their order, with an index where they had one."""
    import xarray as xr

    result = xr.Dataset().coords
    for name in names:
        if name in metadata["multi"]:
            result = result.assign(xr.Coordinates.from_pandas_multiindex(metadata["multi"][name]["index"], name))
        elif name in metadata["unindexed"]:
            result = result.assign(xr.Coordinates({name: variables[name]}, indexes={}))
        elif name in variables:
            result = result.assign({name: variables[name]})
    return result


def _build_variable(held: Mapping[str, Any]) -> xr.Variable:
    import xarray as xr

    return xr.Variable(held["dims"], held["held"], dict(held["attrs"]), dict(held["encoding"]))


def _is_identical(value: Any, built: Any) -> bool:
    if not value.identical(built) or list(value.coords) != list(built.coords):
        return False
    return all(_is_identical_variable(value[name], built[name]) for name in value.coords) and {
        name: type(index) for name, index in value.xindexes.items()
    } == {name: type(index) for name, index in built.xindexes.items()}


def _is_identical_variable(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.attrs == other.attrs and one.dims == other.dims)


def preview_xarray(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show dimensions, coordinates, variables and attributes, as a notebook without HTML does."""
    return {
        PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), [preformatted(repr(value))])
    }
