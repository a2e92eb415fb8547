"""Tests of how arrays are read."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from airflow_zen.materializers.registry import default_registry


def test_large_array_is_mapped(tmp_path: Path) -> None:
    """An array of more than a megabyte is an ndarray over its file, and changing it does not change the file."""
    value = np.arange(200_000, dtype="f8").reshape(400, 500, order="F")
    default_registry().save(value, tmp_path)
    written = (tmp_path / "array.npy").read_bytes()
    loaded = default_registry().load(tmp_path, "numpy.npy@1")
    assert type(loaded) is np.ndarray
    assert isinstance(_root(loaded), mmap.mmap)
    loaded[0, 0] = -1
    assert (tmp_path / "array.npy").read_bytes() == written
    loaded[0, 0] = 0
    np.testing.assert_array_equal(loaded, value)
    assert loaded.flags.f_contiguous


def test_small_array_is_not_mapped(tmp_path: Path) -> None:
    """A small array is read into memory, and keeps no file open."""
    default_registry().save(np.arange(10), tmp_path)
    assert not isinstance(_root(default_registry().load(tmp_path, "numpy.npy@1")), mmap.mmap)


def _root(array: np.ndarray) -> object:
    while isinstance(array, np.ndarray):
        array = array.base
    return array
