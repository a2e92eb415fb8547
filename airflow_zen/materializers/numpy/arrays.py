"""Arrays as `.npy` files, with typed JSON for properties that the format does not keep; and their previews."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_zen.errors import ArtifactRefused, SaveRefused, located
from airflow_zen.materializers.previews.html import BINS, Markup, bar_chart, encode_png, heading, img_tag, preformatted
from airflow_zen.materializers.previews.tables import MAX_SAMPLED_ROWS, sample_rows
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer

ARRAY_FILE = "array.npy"
MASK_FILE = "mask.npy"
METADATA_FILE = "array.json"

# A smaller file takes less time to read than to map into memory.
_MIN_MMAP_BYTES = 1 << 20

# A larger picture may exceed the size limit of a page.
_MAX_PIXELS = 256 * 256
_X87_BYTES = 10

_ARRAY_CLASSES: dict[str, type[np.ndarray[Any, Any]]] = {
    "ndarray": np.ndarray,
    "matrix": np.matrix,
    "recarray": np.recarray,
    "MaskedArray": np.ma.MaskedArray,
}


def save_array(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write an array, and return its summary; raise `SaveRefused` where its class or dtype would not come back."""
    name = next((name for name, cls in _ARRAY_CLASSES.items() if type(value) is cls), None)
    if name is None:
        remedy = "ma.MaskedArray(value, subok=False)" if isinstance(value, np.ma.MaskedArray) else "asarray(value)"
        raise SaveRefused(
            f"{type(value).__qualname__} is a subclass of numpy.ndarray that would come back as another type. "
            f"Return numpy.{remedy}."
        )
    metadata: dict[str, Any] = {} if name == "ndarray" else {"class": name}
    metadata |= _save_mask(value, directory) if isinstance(value, np.ma.MaskedArray) else {}
    metadata |= _save_elements(np.asarray(value), directory)
    summary = {"shape": f"{value.shape} {value.dtype}", "dtype": str(value.dtype)}
    with located("", instead_of="['items']"):
        return {**summary, **(write_typed_json(materializer, metadata, directory, METADATA_FILE) if metadata else {})}


def load_array(materializer: Materializer, directory: Path) -> Any:
    """Return the array that `save_array` wrote."""
    metadata = read_typed_json(materializer, directory, METADATA_FILE) if (directory / METADATA_FILE).exists() else {}
    array = _array_from_items(metadata) if "items" in metadata else read_npy(directory / ARRAY_FILE)
    name = metadata.get("class", "ndarray")
    if name not in _ARRAY_CLASSES:
        raise ArtifactRefused(f"numpy.npy@1 keeps {', '.join(_ARRAY_CLASSES)}, not {name!r}.")
    if name != "MaskedArray":
        return array if name == "ndarray" else array.view(_ARRAY_CLASSES[name])
    mask = np.load(directory / MASK_FILE, allow_pickle=False) if (directory / MASK_FILE).exists() else np.ma.nomask
    return np.ma.MaskedArray(array, mask=mask, fill_value=metadata["fill_value"], hard_mask=metadata["hard_mask"])


def write_npy(array: np.ndarray[Any, Any], file: Path) -> None:
    """Write one array as an `.npy` file; raise `SaveRefused` for a dtype that it would not keep."""
    check_dtype(array.dtype)
    np.save(file, zero_padding(array), allow_pickle=False)


def read_npy(file: Path) -> np.ndarray[Any, Any]:
    """Return the writable array of a file; a large file is mapped into memory, and is not changed with the array."""
    if file.stat().st_size < _MIN_MMAP_BYTES:
        array: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
        return array
    return np.asarray(np.load(file, mmap_mode="c", allow_pickle=False))


def _save_elements(array: np.ndarray[Any, Any], directory: Path) -> dict[str, Any]:
    """Write the elements, and return the metadata that they need."""
    dtype: Any = array.dtype
    if dtype.kind not in "TO":
        write_npy(array, directory / ARRAY_FILE)
        return {}
    order: Literal["C", "F"] = "F" if array.flags.fnc else "C"
    items = {"shape": array.shape, "order": order, "items": array.ravel(order=order).tolist()}
    if dtype.kind == "O":
        return items
    missing = {"na_object": dtype.na_object} if hasattr(dtype, "na_object") else {}
    return {"string": {"coerce": dtype.coerce, **missing}, **items}


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise `SaveRefused` for a dtype that an `.npy` file does not keep."""
    fields_advice = "Return its fields as arrays of their own: {name: value[name] for name in value.dtype.names}."
    if dtype.hasobject:
        raise SaveRefused(f"The structured dtype {dtype} has object fields. {fields_advice}")
    try:
        kept = dtype.metadata is None and np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) == dtype
    except ValueError:
        kept = False  # fields that overlap
    if not kept:
        advice = "Convert the array with .astype() to a dtype of NumPy's own, such as float64."
        raise SaveRefused(f"A .npy file does not keep the dtype {dtype!r}. {fields_advice if dtype.names else advice}")


def _array_from_items(metadata: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    flat: np.ndarray[Any, Any] = np.fromiter(metadata["items"], dtype=object, count=len(metadata["items"]))
    if "string" in metadata:
        flat = flat.astype(np.dtypes.StringDType(**metadata["string"]))
    return flat.reshape(metadata["shape"], order=metadata["order"])


def _save_mask(value: np.ma.MaskedArray[Any, Any], directory: Path) -> dict[str, Any]:
    if value.mask is not np.ma.nomask:
        np.save(directory / MASK_FILE, value.mask, allow_pickle=False)
    fill, usual = value.fill_value, np.ma.default_fill_value(value.dtype)
    if value.dtype.fields is not None:
        fill = np.asarray(fill)  # typed JSON has no scalars of several fields; an array has its own file
    elif np.array_equal(fill, usual, equal_nan=value.dtype.kind in "fcmM"):
        fill = None
    return {"fill_value": fill, "hard_mask": value.hardmask}


def zero_padding(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array with zeros in the padding of its dtype, where NumPy leaves arbitrary bytes."""
    if not _has_padding(array.dtype):
        return array
    zeroed: np.ndarray[Any, Any] = np.zeros(array.shape, dtype=array.dtype, order="F" if array.flags.fnc else "C")
    _copy_fields(array, zeroed)
    return zeroed


def _has_padding(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return _has_padding(dtype.subdtype[0])
    if dtype.fields is None:
        return dtype.kind in "fc" and np.finfo(dtype).nmant == 63
    inner = [field[0] for field in dtype.fields.values()]
    return sum(part.itemsize for part in inner) != dtype.itemsize or any(map(_has_padding, inner))


def _copy_fields(source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> None:
    if source.dtype.names is not None:
        for name in source.dtype.names:
            _copy_fields(source[name], target[name])
    elif not _has_padding(source.dtype):
        target[...] = source
    elif source.dtype.kind == "f":
        _copy_extended(source, target)
    else:
        _copy_extended(source.real, target.real)
        _copy_extended(source.imag, target.imag)


def _copy_extended(source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> None:
    """Copy x87 80-bit floats: 10 bytes of value in 16 bytes of memory."""
    size = source.dtype.itemsize
    flat = np.ascontiguousarray(source).reshape(-1).view(np.uint8).reshape(-1, size).copy()
    flat[:, _X87_BYTES:] = 0
    target[...] = flat.reshape(-1).view(source.dtype).reshape(source.shape)


def array_sections(value: Any) -> Iterator[Markup]:
    """Return the sections of a preview: a small matrix as a picture, the distribution of the values, and the values."""
    pixels = _to_pixels(value)
    if pixels is not None:
        height, width = pixels.shape[:2]
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        yield heading("As a picture")
        yield img_tag(encode_png(width, height, channels, pixels.tobytes()), max(width, min(512, 16 * width)))
    if value.dtype.kind in "biuf" and value.size:
        # A sample of the values, without a copy of the whole array.
        flat: Any = value.compressed().flat if np.ma.isMaskedArray(value) else np.asarray(value).flat
        yield from distribution_section(np.asarray(flat[sample_rows(len(flat))], dtype=np.float64))
    if value.dtype.kind != "O":
        yield heading("Values")
        with np.printoptions(threshold=200, edgeitems=3):
            text = str(value)
        yield preformatted(text, 4_000)


def distribution_section(values: Any) -> Iterator[Markup]:
    """Return a histogram of an array of floats with its heading; nothing where no value is finite."""
    values = values[np.isfinite(values)]
    if not values.size or not np.isfinite(values.max() - values.min()):
        return
    try:
        counts, edges = np.histogram(values, bins=BINS)
    except ValueError:
        return  # numbers so large and so close that there is no float between them
    names = [f"{low:.4g} – {high:.4g}" for low, high in pairwise(edges)]
    yield heading(f"Distribution of {'all' if values.size < MAX_SAMPLED_ROWS else MAX_SAMPLED_ROWS} values")
    yield bar_chart([(name, float(count)) for name, count in zip(names, counts, strict=True)])


def _to_pixels(value: Any) -> Any:
    """Return the pixels of a small matrix, gray, or of a small picture of 3 or 4 channels of bytes; None for other arrays."""
    if np.ma.isMaskedArray(value) or value.ndim < 2 or min(value.shape[:2]) < 4:
        return None
    if value.shape[0] * value.shape[1] > _MAX_PIXELS or value.dtype.kind not in "biuf":
        return None
    if value.ndim != 2:
        is_picture = value.ndim == 3 and value.shape[2] in (3, 4) and value.dtype == np.uint8
        return np.ascontiguousarray(value) if is_picture else None
    numbers = value.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    span = high - low if np.isfinite(high - low) and high > low else 1.0
    scaled = np.nan_to_num((numbers - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    return np.ascontiguousarray(np.clip(scaled * 255, 0, 255).astype(np.uint8))
