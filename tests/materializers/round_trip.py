"""What every row of the round-trip table is put through."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_zen.artifacts.hashing import file_hash
from airflow_zen.materializers.registry import default_registry
from tests.materializers.sameness import are_same, assert_same

REGISTRY = default_registry()


def assert_round_trip(make: Callable[[Path], Any], directory: Path) -> None:
    """Save twice to the same bytes, load, and find the very value."""
    value = make(make_directory(directory, "source"))
    before = copy_or_none(value)
    faithful = are_same(value, before)  # a LightGBM booster's own copy loses its parameters
    first, second = make_directory(directory, "first"), make_directory(directory, "second")
    saved = REGISTRY.save(value, first)
    assert REGISTRY.save(value, second) == saved
    assert hash_files(first) == hash_files(second)
    assert saved.hashes == {name: file_hash(first / name) for name in saved.hashes}
    loaded = REGISTRY.load(first, saved.encoding)
    assert_same(value, loaded)
    assert are_same(before, value) == faithful
    assert saved.inline == (set(hash_files(first)) == {"value.json"})


def assert_resaves_identically(make: Callable[[Path], Any], directory: Path) -> None:
    """Save, load, and save to the same bytes."""
    first, second = make_directory(directory, "first"), make_directory(directory, "second")
    saved = REGISTRY.save(make(make_directory(directory, "source")), first)
    again = REGISTRY.save(REGISTRY.load(first, saved.encoding), second)
    assert (again.encoding, again.type) == (saved.encoding, saved.type)
    assert hash_files(first) == hash_files(second)


def copy_or_none(value: Any) -> Any:
    """Return a copy of a value; None where its class makes none."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return None


def make_directory(parent: Path, name: str) -> Path:
    """Make a directory."""
    directory = parent / name
    directory.mkdir()
    return directory


def hash_files(directory: Path) -> dict[str, str]:
    """Return the hash of every file below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
