"""SciPy's sparse arrays and matrices as `.npy` files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer

FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


class SparseMaterializer(Materializer):
    """Save sparse arrays and matrices of every format in that very format, explicit zeros and all.

    Kept: class, shape, dtypes of values and indices, the order of entries. Refused: subclasses, and values
    that are Python objects.
    """

    types = tuple(f"scipy.sparse.{name}_{kind}" for name in FORMATS for kind in ("array", "matrix"))
    encoding = "scipy.npy@1"
    libraries = ("scipy", "numpy")
    extra = "scipy"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `sparse.json` and one `.npy` file for each array the format is made of."""
        from airflow_zen.materializers.scipy.sparse import save_sparse

        return save_sparse(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show how full it is, and where the entries lie."""
        from airflow_zen.materializers.scipy.sparse import preview_sparse_array

        return preview_sparse_array(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the matrix, writable."""
        from airflow_zen.materializers.scipy.sparse import load_sparse

        return load_sparse(self, directory)
