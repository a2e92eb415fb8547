"""What every row of the round-trip table is put through."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_zen.materializers.registry import default_registry
from tests.materializers.sameness import are_same, assert_same

REGISTRY = default_registry()


def comes_back_exactly(make: Callable[[Path], Any], directory: Path) -> None:
    """Save twice to the same bytes, load, and find the very value."""
    value = make(new(directory, "source"))
    before = copied(value)
    faithful = are_same(value, before)  # a LightGBM booster's own copy loses its parameters
    first, second = new(directory, "first"), new(directory, "second")
    saved = REGISTRY.save(value, first)
    assert REGISTRY.save(value, second) == saved
    assert hashes(first) == hashes(second)
    loaded = REGISTRY.load(first, saved.encoding)
    assert_same(value, loaded)
    assert are_same(before, value) == faithful
    assert saved.inline == (set(hashes(first)) == {"value.json"})


def is_passed_on_unchanged(make: Callable[[Path], Any], directory: Path) -> None:
    """Save, load, and save to the same bytes."""
    first, second = new(directory, "first"), new(directory, "second")
    saved = REGISTRY.save(make(new(directory, "source")), first)
    again = REGISTRY.save(REGISTRY.load(first, saved.encoding), second)
    assert (again.encoding, again.type) == (saved.encoding, saved.type)
    assert hashes(first) == hashes(second)


def copied(value: Any) -> Any:
    """Give a copy of a value; None where its class makes none."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return None


def new(parent: Path, name: str) -> Path:
    """Make a directory."""
    directory = parent / name
    directory.mkdir()
    return directory


def hashes(directory: Path) -> dict[str, str]:
    """Give the hash of every file below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
