"""Promises of files that are hashed while they are written."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from airflow_zen.artifacts.hashing import BackgroundHasher

MIB = 1024 * 1024


@pytest.mark.parametrize("sizes", [[], [1], [5 * MIB, 1, 9 * MIB, MIB], [1, 2, 3]])
def test_hash_is_that_of_the_whole_file(sizes: list[int], tmp_path: Path) -> None:
    """However a file is written, its hash is that of all its bytes."""
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as file:
        hasher = BackgroundHasher(path)
        for size in sizes:
            file.write(os.urandom(size))
            hasher.update()
    assert hasher.finalize() == f"blake3:{blake3(path.read_bytes()).hexdigest()}"


def test_small_file_costs_no_thread(tmp_path: Path) -> None:
    """Small files are hashed without a thread."""
    (tmp_path / "file").write_bytes(b"small")
    before = threading.active_count()
    hasher = BackgroundHasher(tmp_path / "file")
    hasher.update()
    assert threading.active_count() == before
    assert hasher.finalize() == f"blake3:{blake3(b'small').hexdigest()}"


def test_thread_ends_with_a_failed_write(tmp_path: Path) -> None:
    """A writer that fails leaves no thread behind."""
    (tmp_path / "file").write_bytes(bytes(5 * MIB))
    before = threading.active_count()
    hasher = BackgroundHasher(tmp_path / "file")
    hasher.update()
    hasher.close()
    assert threading.active_count() == before
