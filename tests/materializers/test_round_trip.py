"""Every value comes back exactly, from the same bytes each time, or is refused with a reason."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from airflow_zen.materializers.registry import default_registry
from tests.materializers import (
    arrow_values,
    builtin_values,
    library_values,
    numpy_values,
    pandas_values,
    path_values,
    sparse_values,
)
from tests.materializers.sameness import are_same, assert_same

CONSTANTS = {
    **{f"python: {name}": value for name, value in builtin_values.ROWS.items()},
    **{f"numpy: {name}": value for name, value in numpy_values.ROWS.items()},
    **{f"pandas: {name}": value for name, value in pandas_values.ROWS.items()},
    **arrow_values.ARROW,
    **arrow_values.POLARS,
    **{f"sparse: {name}": value for name, value in sparse_values.ROWS.items()},
    **library_values.CONSTANTS,
}
FACTORIES = {**path_values.FILES, **path_values.MODELS, **library_values.BOOSTERS}


def _constant(value: Any) -> Callable[[Path], Any]:
    return lambda _: value


TABLE = {**{name: _constant(value) for name, value in CONSTANTS.items()}, **FACTORIES}
REGISTRY = default_registry()


@pytest.mark.parametrize("make", TABLE.values(), ids=TABLE.keys())
def test_value_comes_back_exactly(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """A value that is saved comes back with its exact type and content, and saving it twice gives the same bytes."""
    value = make(_new(tmp_path, "source"))
    before = copy.deepcopy(value)
    copied = are_same(value, before)  # a LightGBM booster's own copy loses its parameters
    first, second = _new(tmp_path, "first"), _new(tmp_path, "second")
    saved = REGISTRY.save(value, first)
    assert REGISTRY.save(value, second) == saved
    assert _hashes(first) == _hashes(second)
    loaded = REGISTRY.load(first, saved.encoding)
    assert_same(value, loaded)
    assert are_same(before, value) == copied
    assert saved.inline == (set(_hashes(first)) == {"value.json"})


@pytest.mark.parametrize("make", TABLE.values(), ids=TABLE.keys())
def test_loaded_value_is_saved_as_the_same_bytes(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """A step that passes an artifact on unchanged gives an artifact of the same digest."""
    first, second = _new(tmp_path, "first"), _new(tmp_path, "second")
    saved = REGISTRY.save(make(_new(tmp_path, "source")), first)
    again = REGISTRY.save(REGISTRY.load(first, saved.encoding), second)
    assert (again.encoding, again.type) == (saved.encoding, saved.type)
    assert _hashes(first) == _hashes(second)


def test_arrow_table_without_columns_keeps_its_rows(tmp_path: Path) -> None:
    """A table of no columns and three rows comes back with three rows (not in the table: deepcopy loses them)."""
    saved = REGISTRY.save(pa.table({"a": [1, 2, 3]}).select([]), tmp_path)
    assert REGISTRY.load(tmp_path, saved.encoding).num_rows == 3


@pytest.mark.parametrize("frame", pandas_values.COLUMNS.values(), ids=pandas_values.COLUMNS.keys())
def test_loaded_frame_is_writable(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A step may change a frame in place that it was handed."""
    saved = REGISTRY.save(frame, tmp_path)
    loaded = REGISTRY.load(tmp_path, saved.encoding)
    for position in range(loaded.shape[1]):
        dtype = loaded.dtypes.iloc[position]
        if dtype.kind == "O" or isinstance(dtype, pd.SparseDtype):
            continue  # assignment unpacks some objects, and pandas has none into sparse columns
        loaded.iloc[0, position] = loaded.iloc[-1, position]


def _new(parent: Path, name: str) -> Path:
    directory = parent / name
    directory.mkdir()
    return directory


def _hashes(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
