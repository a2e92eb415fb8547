"""SciPy's sparse arrays and matrices as one `.npy` file for each array they consist of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer, require_exact_type
from airflow_zen.materializers.previews.html import encode_png, heading, img_tag, preview_page
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
METADATA_FILE = "sparse.json"

_CLASS_NAMES = tuple(f"{name}_{kind}" for name in FORMATS for kind in ("array", "matrix"))
_ATTRIBUTES = {**dict.fromkeys(("bsr", "csc", "csr"), ("data", "indices", "indptr")), "dia": ("data", "offsets")}
_MAX_SIDE = 200
_MAX_ENTRIES = 1_000_000


class SparseMaterializer(Materializer):
    """Save sparse arrays and matrices of every format in their own format, with explicit zeros.

    Kept: class, shape, dtypes of values and indices, the order of entries. Refused: subclasses, and values
    that are Python objects.
    """

    types = tuple(f"scipy.sparse.{name}" for name in _CLASS_NAMES)
    encoding = "scipy.npy@1"
    libraries = ("scipy", "numpy")
    extra = "scipy"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `sparse.json`, and one `.npy` file for each array of the format."""
        from airflow_zen.materializers.numpy.arrays import write_npy

        require_exact_type(value, *self.types)
        if value.dtype.hasobject:
            raise SaveRefused("A sparse matrix of Python objects is not stored. Convert it with .astype(float).")
        for name, array in _to_arrays(value).items():
            write_npy(array, directory / f"{name}.npy")
        metadata = {"class": type(value).__name__, "shape": tuple(map(int, value.shape)), "dtype": value.dtype.str}
        if value.format == "coo":
            metadata["canonical"] = bool(value.has_canonical_format)
        write_typed_json(self, metadata, directory, METADATA_FILE)
        return {"shape": f"{value.shape} {value.dtype}, {value.nnz} stored", "dtype": str(value.dtype)}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the matrix; its arrays are writable."""
        import scipy.sparse

        from airflow_zen.materializers.numpy.arrays import read_npy

        metadata = read_typed_json(self, directory, METADATA_FILE)
        if metadata["class"] not in _CLASS_NAMES:
            raise ArtifactRefused(f"scipy.npy@1 keeps {', '.join(_CLASS_NAMES)}, not {metadata['class']!r}.")
        arrays = {path.stem: read_npy(path) for path in sorted(directory.glob("*.npy"))}
        build = _BUILDERS.get(metadata["class"].partition("_")[0], _build_from_attributes)
        return build(getattr(scipy.sparse, metadata["class"]), metadata, arrays)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the share of stored entries, and their positions."""
        cells = math.prod(value.shape)
        filled = f"{value.nnz / cells:.4%}" if cells else ""
        sections = [plain_table(["", ""], [("entries", value.nnz), ("filled", filled)])]
        if value.ndim == 2 and cells and value.nnz <= _MAX_ENTRIES:
            pixels = _density_pixels(value.tocoo())
            picture = encode_png(pixels.shape[1], pixels.shape[0], 1, pixels.tobytes())
            sections += [heading("Positions of the entries"), img_tag(picture, max(200, pixels.shape[1]))]
        return preview_page(value, summary, sections)


def _to_arrays(value: Any) -> Arrays:
    import numpy as np

    if value.format == "coo":
        return {"data": value.data, **{f"coordinates{axis}": held for axis, held in enumerate(value.coords)}}
    if value.format == "dok":
        keys = np.array([key if isinstance(key, tuple) else (key,) for key, _ in value.items()], dtype=np.int64)
        values = np.array(list(value.values()), dtype=value.dtype)
        return {"data": values, "keys": keys.reshape(len(values), len(value.shape))}
    if value.format == "lil":
        return {
            "data": np.array(list(chain.from_iterable(value.data)), value.dtype),
            "columns": np.array(list(chain.from_iterable(value.rows)), dtype=np.int64),
            "lengths": np.array(list(map(len, value.rows)), dtype=np.int64),
        }
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
    value = cls(metadata["shape"], dtype=metadata["dtype"])
    keys = (key[0] if len(key) == 1 else tuple(key) for key in arrays["keys"].tolist())
    # Assignment by item would leave out explicit zeros.
    value._dict = dict(zip(keys, arrays["data"], strict=True))
    return value


def _build_lil(cls: Any, metadata: Mapping[str, Any], arrays: Arrays) -> Any:
    value = cls(metadata["shape"], dtype=metadata["dtype"])
    columns, items = (iter(arrays[name].tolist()) for name in ("columns", "data"))
    for row, length in enumerate(arrays["lengths"].tolist()):
        value.rows[row] = list(islice(columns, length))
        value.data[row] = list(islice(items, length))
    return value


_BUILDERS = {"coo": _build_coo, "dok": _build_dok, "lil": _build_lil}


def _density_pixels(value: Any) -> Any:
    """Count entries in at most 200 × 200 squares; a square with more entries is darker."""
    import numpy as np

    bins = [min(_MAX_SIDE, size) for size in value.shape]
    counts, *_ = np.histogram2d(value.row, value.col, bins, [(0, size) for size in value.shape])
    shade = np.sqrt(counts / max(1.0, counts.max()))
    return np.ascontiguousarray(255 - (shade * 255).astype(np.uint8))
