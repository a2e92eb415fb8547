"""Arrays to `.npy` files and back, with a note beside them where the file alone is not exact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.numpy.padding import without_padding
from airflow_zen.materializers.tree import read_tree, write_tree

ARRAY = "array.npy"
MASK = "mask.npy"
NOTE = "array.json"

# Below a megabyte, reading costs less than mapping and touching the pages.
_SMALLEST_MAPPED = 1 << 20

_CLASSES: dict[str, type[np.ndarray[Any, Any]]] = {
    "ndarray": np.ndarray,
    "matrix": np.matrix,
    "recarray": np.recarray,
    "MaskedArray": np.ma.MaskedArray,
}


def save_array(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write an array; raises `SaveRefused` when its class or dtype would not come back."""
    name = next((name for name, cls in _CLASSES.items() if type(value) is cls), None)
    if name is None:
        raise SaveRefused(
            f"{type(value).__qualname__} is a subclass of numpy.ndarray that would come back as another type. "
            f"Return {'numpy.ma.MaskedArray' if isinstance(value, np.ma.MaskedArray) else 'numpy.asarray'}(value)."
        )
    note: dict[str, Any] = {} if name == "ndarray" else {"class": name}
    if isinstance(value, np.ma.MaskedArray):
        note |= _save_mask(value, directory)
    summary = {"shape": f"{value.shape} {value.dtype}", "dtype": str(value.dtype)}
    note |= _save_elements(np.asarray(value), directory)
    parts = write_tree(materializer, note, directory, NOTE) if note else []
    return {**summary, "parts": parts} if parts else summary


def load_array(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_array` wrote."""
    note = read_tree(materializer, directory, NOTE) if (directory / NOTE).exists() else {}
    array = _from_items(note) if "items" in note else read_npy(directory / ARRAY)
    name = note.get("class", "ndarray")
    if name not in _CLASSES:
        raise ArtifactRefused(f"numpy.npy@1 keeps {', '.join(_CLASSES)}, not {name!r}.")
    if name == "MaskedArray":
        return _masked(array, note, directory)
    return array if name == "ndarray" else array.view(_CLASSES[name])


def write_npy(array: np.ndarray[Any, Any], file: Path) -> None:
    """Write one array as NumPy's own file; raises `SaveRefused` for a dtype that it would not keep."""
    _check(array.dtype)
    np.save(file, without_padding(array), allow_pickle=False)


def read_npy(file: Path) -> np.ndarray[Any, Any]:
    """Read one array, writable; a large one is mapped into memory, and changes stay in memory."""
    if file.stat().st_size < _SMALLEST_MAPPED:
        array: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
        return array
    return np.asarray(np.load(file, mmap_mode="c", allow_pickle=False))


def _save_elements(array: np.ndarray[Any, Any], directory: Path) -> dict[str, Any]:
    """Write the elements, and give what has to be noted about them."""
    if array.dtype.kind == "T":
        return {"string": _string_options(array.dtype), **_items(array)}
    if array.dtype == object:
        return _items(array)
    write_npy(array, directory / ARRAY)
    return {}


def _check(dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise SaveRefused(f"The structured dtype {dtype} has object fields. Save its fields as separate arrays.")
    if dtype.metadata is not None or not _is_kept(dtype):
        raise SaveRefused(
            f"A .npy file does not keep the dtype {dtype!r}. Convert the array to a dtype of NumPy's own."
        )


def _is_kept(dtype: np.dtype[Any]) -> bool:
    try:
        return bool(np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) == dtype)
    except ValueError:
        return False  # fields that overlap


def _items(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    order: Literal["C", "F"] = "F" if array.flags.fnc else "C"
    return {"shape": array.shape, "order": order, "items": array.ravel(order=order).tolist()}


def _from_items(note: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    flat = np.empty(len(note["items"]), dtype=object)
    for position, item in enumerate(note["items"]):
        flat[position] = item
    if "string" in note:
        return flat.astype(np.dtypes.StringDType(**note["string"])).reshape(note["shape"], order=note["order"])
    return flat.reshape(note["shape"], order=note["order"])


def _string_options(dtype: Any) -> dict[str, Any]:
    options = {"coerce": dtype.coerce}
    return {**options, "na_object": dtype.na_object} if hasattr(dtype, "na_object") else options


def _save_mask(value: np.ma.MaskedArray[Any, Any], directory: Path) -> dict[str, Any]:
    if value.mask is not np.ma.nomask:
        np.save(directory / MASK, value.mask, allow_pickle=False)
    fill, usual = value.fill_value, np.ma.default_fill_value(value.dtype)
    if value.dtype.fields is not None:
        fill = np.asarray(fill)  # a scalar of several fields has no form as JSON, an array has its file
    elif np.array_equal(fill, usual, equal_nan=value.dtype.kind in "fcmM"):
        fill = None
    return {"fill_value": fill, "hard_mask": value.hardmask}


def _masked(array: np.ndarray[Any, Any], note: Mapping[str, Any], directory: Path) -> Any:
    mask = np.load(directory / MASK, allow_pickle=False) if (directory / MASK).exists() else np.ma.nomask
    return np.ma.MaskedArray(array, mask=mask, fill_value=note["fill_value"], hard_mask=note["hard_mask"])
