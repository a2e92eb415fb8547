"""xarray datasets and data arrays as one `.npy` file for each variable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused, located
from airflow_zen.materializers.base import Materializer, require_exact_type
from airflow_zen.materializers.previews.html import preformatted, preview_page
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

DATASET_FILE = "dataset.json"

# A data array is stored as a dataset of one variable, whose name no user's coordinate has.
_ARRAY_NAME = "<airflow_zen: the values>"


class XarrayMaterializer(Materializer):
    """Save dimensions, variables, coordinates, indexes, attributes and encodings exactly, which netCDF would not.

    Refused: variables that are not in memory as NumPy arrays (dask), and indexes that are not pandas indexes.
    """

    types = ("xarray.Dataset", "xarray.DataArray")
    encoding = "xarray.npy@1"
    libraries = ("xarray", "numpy", "pandas")
    extra = "xarray"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `dataset.json`, and arrays and indexes beside it as parts."""
        require_exact_type(value, *self.types)
        metadata = _to_metadata(value)
        built = _from_metadata(metadata)
        if not value.identical(built) or _coordinate_facts(value) != _coordinate_facts(built):
            raise SaveRefused(
                f"This xarray.{type(value).__qualname__} would not come back exactly. Its indexes must be those that "
                f"xarray makes of its coordinates; drop_indexes() removes the others."
            )
        array = f"['variables']['{_ARRAY_NAME}']['attrs']"
        with (
            located("variables", instead_of="['variables']"),
            located("attrs", instead_of=array),
            located("attrs", instead_of="['attrs']"),
        ):
            parts = write_typed_json(self, metadata, directory, DATASET_FILE)
        sizes = " × ".join(f"{name} {size}" for name, size in value.sizes.items())
        return {"shape": f"{type(value).__qualname__} of {sizes or 'one value'}", **parts}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the dataset into memory."""
        return _from_metadata(read_typed_json(self, directory, DATASET_FILE))

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show dimensions, coordinates, variables and attributes, as a notebook without HTML does."""
        return preview_page(value, summary, [preformatted(repr(value))])


def _to_metadata(value: Any) -> dict[str, Any]:
    import pandas as pd

    is_array = type(value).__qualname__ == "DataArray"
    dataset = value.rename(None).to_dataset(name=_ARRAY_NAME) if is_array else value
    indexes = dict(dataset.indexes)
    multi = {name: index for name, index in indexes.items() if isinstance(index, pd.MultiIndex)}
    plain = {name: held for name, held in dataset.variables.items() if name not in multi}
    levels = {name: index for name, index in multi.items() if name in dataset.dims}
    return {
        "kind": type(value).__qualname__,
        "name": value.name if is_array else None,
        "attrs": dict(dataset.attrs),
        "encoding": dict(dataset.encoding),
        "variables": {name: _variable_metadata(name, variable, indexes) for name, variable in plain.items()},
        "order": [list(dataset.data_vars), list(dataset.coords)],
        "multi": {name: {"index": index, "attrs": dict(dataset[name].attrs)} for name, index in levels.items()},
        "unindexed": [name for name in dataset.coords if name in dataset.dims and name not in indexes],
    }


def _variable_metadata(name: Any, variable: xr.Variable, indexes: Mapping[Any, pd.Index]) -> dict[str, Any]:
    import numpy as np
    import xarray as xr

    held = variable.values if isinstance(variable, xr.IndexVariable) else variable.data
    if not isinstance(held, np.ndarray):
        is_lazy = hasattr(held, "compute")
        remedy = "Call .compute() first." if is_lazy else f"Convert it: value[{name!r}].astype(object)."
        raise SaveRefused(f"The variable {name!r} is a {type_name(type(held))}, not a NumPy array. {remedy}")
    # Text keeps its width only as an array; times keep their frequency only as an index.
    if name in indexes and variable.dtype.kind not in "US":
        held = indexes[name]
    return {"dims": variable.dims, "held": held, "attrs": dict(variable.attrs), "encoding": dict(variable.encoding)}


def _from_metadata(metadata: Mapping[str, Any]) -> Any:
    import xarray as xr

    data_vars, coords = metadata["order"]
    variables = {
        name: xr.Variable(held["dims"], held["held"], dict(held["attrs"]), dict(held["encoding"]))
        for name, held in metadata["variables"].items()
    }
    coordinates = _build_coordinates(metadata, coords, variables)
    built = xr.Dataset({name: variables[name] for name in data_vars}, coords=coordinates)
    for dim, held in metadata["multi"].items():
        built[dim].attrs.update(held["attrs"])
    built.attrs, built.encoding = dict(metadata["attrs"]), dict(metadata["encoding"])
    return built if metadata["kind"] == "Dataset" else built[_ARRAY_NAME].rename(metadata["name"])


def _build_coordinates(metadata: Mapping[str, Any], names: list[Any], variables: Mapping[Any, xr.Variable]) -> Any:
    """Return the coordinates in their order, with an index where they had one."""
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


def _coordinate_facts(value: Any) -> tuple[Any, ...]:
    """Return what `identical` does not compare: the order and dtypes of coordinates, and the types of their indexes."""
    coordinates = [(name, held.dtype, held.attrs, held.dims) for name, held in value.coords.items()]
    return coordinates, {name: type(index) for name, index in value.xindexes.items()}
