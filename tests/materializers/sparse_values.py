"""Rows of the round-trip table: SciPy's sparse arrays and matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
DENSE = np.array([[0, 1.5, 0, 0], [2, 0, 0, -0.0], [0, 0, np.nan, 3]])


def _wide_indices() -> Any:
    value = sp.csr_array(DENSE)
    value.indices, value.indptr = value.indices.astype(np.int64), value.indptr.astype(np.int64)
    return value


def _unsorted() -> Any:
    return sp.csr_matrix((np.array([1, 2, 3]), np.array([2, 0, 1]), np.array([0, 2, 3])), shape=(2, 4))


def _explicit_zero(kind: str) -> Any:
    value = sp.coo_array((np.array([0.0, 1.0]), (np.array([0, 1]), np.array([1, 0]))), shape=(2, 2))
    return value.asformat(kind)


def _repeated() -> Any:
    return sp.coo_matrix((np.array([1, 2]), (np.array([0, 0]), np.array([1, 1]))), shape=(2, 2))


def _canonical() -> Any:
    value = _repeated()
    value.sum_duplicates()
    return value


ROWS: dict[str, Any] = {
    **{f"{name} array": getattr(sp, f"{name}_array")(DENSE) for name in FORMATS},
    **{f"{name} matrix": getattr(sp, f"{name}_matrix")(DENSE) for name in FORMATS},
    **{f"{name} of float32": getattr(sp, f"{name}_array")(DENSE.astype("f4")) for name in FORMATS},
    **{
        f"empty {name}": getattr(sp, f"{name}_array")((2, 3), dtype="i2")
        for name in ("coo", "csr", "dok", "lil", "dia")
    },
    "csr of bool": sp.csr_array(DENSE > 0),
    "csr of complex": sp.csr_array(DENSE * 1j),
    "csr of 64-bit indices": _wide_indices(),
    "csr of unsorted indices": _unsorted(),
    "csr with an explicit zero": _explicit_zero("csr"),
    "dok with an explicit zero": _explicit_zero("dok"),
    "coo with repeated entries": _repeated(),
    "coo in canonical form": _canonical(),
    "coo of one dimension": sp.coo_array(np.array([0, 1, 0, 2])),
    "coo of three dimensions": sp.coo_array(np.arange(8).reshape(2, 2, 2)),
    "csr of one dimension": sp.csr_array(np.array([0, 1, 0, 2])),
    "dok of one dimension": sp.dok_array(np.array([0, 1, 0, 2])),
    "bsr of blocks": sp.bsr_array(np.kron(np.eye(2), np.ones((2, 3))), blocksize=(2, 3)),
    "csr of no rows": sp.csr_array((0, 4)),
    "sparse matrix in a dict": {"x": sp.csr_matrix(DENSE), "y": np.arange(3)},
}
