"""Arrays to `.npy` files and back, with a note beside them where the file alone is not exact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.numpy.padding import zero_padding
from airflow_zen.materializers.tree import read_typed_json, write_typed_json

ARRAY_FILE = "array.npy"
MASK_FILE = "mask.npy"
METADATA_FILE = "array.json"

# Below a megabyte, reading costs less than mapping and touching the pages.
_MIN_MMAP_BYTES = 1 << 20

_ARRAY_CLASSES: dict[str, type[np.ndarray[Any, Any]]] = {
    "ndarray": np.ndarray,
    "matrix": np.matrix,
    "recarray": np.recarray,
    "MaskedArray": np.ma.MaskedArray,
}


def save_array(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write an array; raises `SaveRefused` when its class or dtype would not come back."""
    name = next((name for name, cls in _ARRAY_CLASSES.items() if type(value) is cls), None)
    if name is None:
        raise SaveRefused(
            f"{type(value).__qualname__} is a subclass of numpy.ndarray that would come back as another type. "
            f"Return {'numpy.ma.MaskedArray' if isinstance(value, np.ma.MaskedArray) else 'numpy.asarray'}(value)."
        )
    metadata: dict[str, Any] = {} if name == "ndarray" else {"class": name}
    if isinstance(value, np.ma.MaskedArray):
        metadata |= _save_mask(value, directory)
    summary = {"shape": f"{value.shape} {value.dtype}", "dtype": str(value.dtype)}
    metadata |= _save_elements(np.asarray(value), directory)
    parts = write_typed_json(materializer, metadata, directory, METADATA_FILE) if metadata else []
    return {**summary, "parts": parts} if parts else summary


def load_array(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_array` wrote."""
    metadata = read_typed_json(materializer, directory, METADATA_FILE) if (directory / METADATA_FILE).exists() else {}
    array = _array_from_items(metadata) if "items" in metadata else read_npy(directory / ARRAY_FILE)
    name = metadata.get("class", "ndarray")
    if name not in _ARRAY_CLASSES:
        raise ArtifactRefused(f"numpy.npy@1 keeps {', '.join(_ARRAY_CLASSES)}, not {name!r}.")
    if name == "MaskedArray":
        return _load_masked(array, metadata, directory)
    return array if name == "ndarray" else array.view(_ARRAY_CLASSES[name])


def write_npy(array: np.ndarray[Any, Any], file: Path) -> None:
    """Write one array as NumPy's own file; raises `SaveRefused` for a dtype that it would not keep."""
    _check_dtype(array.dtype)
    np.save(file, zero_padding(array), allow_pickle=False)


def read_npy(file: Path) -> np.ndarray[Any, Any]:
    """Read one array, writable; a large one is mapped into memory, and changes stay in memory."""
    if file.stat().st_size < _MIN_MMAP_BYTES:
        array: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
        return array
    return np.asarray(np.load(file, mmap_mode="c", allow_pickle=False))


def _save_elements(array: np.ndarray[Any, Any], directory: Path) -> dict[str, Any]:
    """Write the elements, and give what has to be noted about them."""
    if array.dtype.kind == "T":
        return {"string": _string_options(array.dtype), **_items_metadata(array)}
    if array.dtype == object:
        return _items_metadata(array)
    write_npy(array, directory / ARRAY_FILE)
    return {}


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise SaveRefused(f"The structured dtype {dtype} has object fields. Save its fields as separate arrays.")
    if dtype.metadata is not None or not _dtype_roundtrips(dtype):
        raise SaveRefused(
            f"A .npy file does not keep the dtype {dtype!r}. Convert the array to a dtype of NumPy's own."
        )


def _dtype_roundtrips(dtype: np.dtype[Any]) -> bool:
    try:
        return bool(np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) == dtype)
    except ValueError:
        return False  # fields that overlap


def _items_metadata(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    order: Literal["C", "F"] = "F" if array.flags.fnc else "C"
    return {"shape": array.shape, "order": order, "items": array.ravel(order=order).tolist()}


def _array_from_items(metadata: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    flat = np.empty(len(metadata["items"]), dtype=object)
    for position, item in enumerate(metadata["items"]):
        flat[position] = item
    if "string" in metadata:
        return flat.astype(np.dtypes.StringDType(**metadata["string"])).reshape(
            metadata["shape"], order=metadata["order"]
        )
    return flat.reshape(metadata["shape"], order=metadata["order"])


def _string_options(dtype: Any) -> dict[str, Any]:
    options = {"coerce": dtype.coerce}
    return {**options, "na_object": dtype.na_object} if hasattr(dtype, "na_object") else options


def _save_mask(value: np.ma.MaskedArray[Any, Any], directory: Path) -> dict[str, Any]:
    if value.mask is not np.ma.nomask:
        np.save(directory / MASK_FILE, value.mask, allow_pickle=False)
    fill, usual = value.fill_value, np.ma.default_fill_value(value.dtype)
    if value.dtype.fields is not None:
        fill = np.asarray(fill)  # a scalar of several fields has no form as JSON, an array has its file
    elif np.array_equal(fill, usual, equal_nan=value.dtype.kind in "fcmM"):
        fill = None
    return {"fill_value": fill, "hard_mask": value.hardmask}


def _load_masked(array: np.ndarray[Any, Any], metadata: Mapping[str, Any], directory: Path) -> Any:
    mask = np.load(directory / MASK_FILE, allow_pickle=False) if (directory / MASK_FILE).exists() else np.ma.nomask
    return np.ma.MaskedArray(array, mask=mask, fill_value=metadata["fill_value"], hard_mask=metadata["hard_mask"])
