"""Sparse matrices to the arrays they are made of, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.numpy.arrays import read_npy, write_npy
from airflow_zen.materializers.previews.html import PREVIEW_HTML, Markup, encode_png, heading, html_page, img_tag
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.materializers.scipy import FORMATS
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer

METADATA_FILE = "sparse.json"

Arrays = dict[str, np.ndarray[Any, Any]]

_CLASSES = {
    f"{name}_{kind}": getattr(scipy.sparse, f"{name}_{kind}") for name in FORMATS for kind in ("array", "matrix")
}
_ATTRIBUTES = {
    **dict.fromkeys(("bsr", "csc", "csr"), ("data", "indices", "indptr")),
    "dia": ("data", "offsets"),
}


def save_sparse(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write a sparse matrix; raises `SaveRefused` when its class or dtype would not come back."""
    name = next((name for name, cls in _CLASSES.items() if type(value) is cls), None)
    if name is None:
        raise SaveRefused(f"{type_name(type(value))} is a subclass that would come back as its base class.")
    if value.dtype.hasobject:
        raise SaveRefused("A sparse matrix of Python objects is not stored. Convert it with .astype(float).")
    for part, array in _component_arrays(value).items():
        write_npy(array, directory / f"{part}.npy")
    metadata: dict[str, Any] = {"class": name, "shape": tuple(map(int, value.shape)), "dtype": value.dtype.str}
    if value.format == "coo":
        metadata["canonical"] = bool(value.has_canonical_format)
    write_typed_json(materializer, metadata, directory, METADATA_FILE)
    return {"shape": f"{value.shape} {value.dtype}, {value.nnz} stored", "dtype": str(value.dtype)}


def load_sparse(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_sparse` wrote."""
    metadata = read_typed_json(materializer, directory, METADATA_FILE)
    cls = _CLASSES.get(metadata["class"])
    if cls is None:
        raise ArtifactRefused(f"scipy.npy@1 keeps {', '.join(_CLASSES)}, not {metadata['class']!r}.")
    arrays = {path.stem: read_npy(path) for path in sorted(directory.glob("*.npy"))}
    kind = metadata["class"].partition("_")[0]
    return _BUILDERS.get(kind, _build_from_attributes)(cls, metadata, arrays)


def _component_arrays(value: Any) -> Arrays:
    if value.format == "coo":
        return {"data": value.data, **{f"coordinates{axis}": held for axis, held in enumerate(value.coords)}}
    if value.format == "dok":
        keys = np.array([key if isinstance(key, tuple) else (key,) for key, _ in value.items()], dtype=np.int64)
        values = np.array(list(value.values()), dtype=value.dtype)
        return {"data": values, "keys": keys.reshape(len(values), len(value.shape))}
    if value.format == "lil":
        lengths = np.array([len(row) for row in value.rows], dtype=np.int64)
        columns = np.array([column for row in value.rows for column in row], dtype=np.int64)
        return {"data": np.array([item for row in value.data for item in row], value.dtype), "columns": columns,
                "lengths": lengths}  # fmt: skip
    return {name: getattr(value, name) for name in _ATTRIBUTES[value.format]}


def _build_from_attributes(cls: Any, metadata: Mapping[str, Any], arrays: Arrays) -> Any:
    names = _ATTRIBUTES[metadata["class"].partition("_")[0]]
    value = cls(tuple(arrays[name] for name in names), shape=metadata["shape"])
    # The constructor would choose the narrowest dtype for indices.
    for name in names:
        setattr(value, name, arrays[name])
    return value


def _build_coo(cls: Any, metadata: Mapping[str, Any], arrays: Arrays) -> Any:
    coordinates = tuple(arrays[f"coordinates{axis}"] for axis in range(len(metadata["shape"])))
    value = cls((arrays["data"], coordinates), shape=metadata["shape"])
    value.coords = coordinates
    value.has_canonical_format = metadata["canonical"]
    return value


def _build_dok(cls: Any, metadata: Mapping[str, Any], arrays: Arrays) -> Any:
    value = cls(metadata["shape"], dtype=np.dtype(metadata["dtype"]))
    keys = (key[0] if len(key) == 1 else tuple(key) for key in arrays["keys"].tolist())
    # Assignment by item would leave out explicit zeros.
    value._dict = dict(zip(keys, arrays["data"], strict=True))
    return value


def _build_lil(cls: Any, metadata: Mapping[str, Any], arrays: Arrays) -> Any:
    value = cls(metadata["shape"], dtype=np.dtype(metadata["dtype"]))
    ends = np.cumsum(arrays["lengths"])
    columns, items = arrays["columns"].tolist(), arrays["data"].tolist()
    for row, (end, length) in enumerate(zip(ends.tolist(), arrays["lengths"].tolist(), strict=True)):
        value.rows[row] = columns[end - length : end]
        value.data[row] = items[end - length : end]
    return value


_BUILDERS = {"coo": _build_coo, "dok": _build_dok, "lil": _build_lil}


_MAX_SIDE = 200
_MAX_ENTRIES = 1_000_000


def preview_sparse_array(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a sparse array or matrix."""
    return {
        PREVIEW_HTML: html_page(
            type(value).__qualname__, f"{value.dtype} · shape {value.shape}", _matrix_sections(value)
        )
    }


def _matrix_sections(value: Any) -> Iterator[Markup]:
    cells = float(np.prod(value.shape, dtype=np.float64))
    facts = [("entries", value.nnz), ("filled", f"{value.nnz / cells:.4%}" if cells else "")]
    yield plain_table(["", ""], facts)
    if value.ndim == 2 and cells and value.nnz <= _MAX_ENTRIES:
        yield heading("Where the entries lie")
        pixels = _density_pixels(value.tocoo())
        yield img_tag(encode_png(pixels.shape[1], pixels.shape[0], 1, pixels.tobytes()), max(200, pixels.shape[1]))


def _density_pixels(value: Any) -> Any:
    """Count entries in at most 200 × 200 squares; the fuller, the darker."""
    height, width = (min(_MAX_SIDE, size) for size in value.shape)
    rows = value.row.astype(np.float64) * height // value.shape[0]
    columns = value.col.astype(np.float64) * width // value.shape[1]
    counts = np.zeros((height, width))
    np.add.at(counts, (rows.astype(np.int64), columns.astype(np.int64)), 1)
    shade = np.sqrt(counts / max(1.0, counts.max()))
    return np.ascontiguousarray(255 - (shade * 255).astype(np.uint8))
