"""Every value comes back exactly, from the same bytes each time, or is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from tests.materializers import (
    arrow_values,
    builtin_values,
    library_values,
    ml_values,
    numpy_values,
    pandas_values,
    path_values,
    sparse_values,
)
from tests.materializers.round_trip import REGISTRY, assert_resaves_identically, assert_round_trip

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


def test_table_is_large() -> None:
    """The table holds at least 200 values of every kind that a step returns."""
    assert len(TABLE) >= 200


@pytest.mark.parametrize("make", TABLE.values(), ids=TABLE.keys())
def test_value_comes_back_exactly(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """A value that is saved comes back with its exact type and content, and saving it twice gives the same bytes."""
    assert_round_trip(make, tmp_path)


@pytest.mark.parametrize("make", TABLE.values(), ids=TABLE.keys())
def test_loaded_value_is_saved_as_the_same_bytes(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """A step that passes an artifact on unchanged gives an artifact of the same digest."""
    assert_resaves_identically(make, tmp_path)


ML_ROWS = [pytest.param(row, id=name, marks=pytest.mark.ml) for name, row in ml_values.ROWS.items()]


@pytest.mark.parametrize("row", ML_ROWS)
def test_value_of_a_large_library_comes_back_exactly(row: ml_values.Row, tmp_path: Path) -> None:
    """What the large libraries make comes back exactly too, and is saved to the same bytes twice."""
    row.skip_if_absent()
    assert_round_trip(row.make, tmp_path)


@pytest.mark.parametrize("row", ML_ROWS)
def test_loaded_value_of_a_large_library_is_saved_as_the_same_bytes(row: ml_values.Row, tmp_path: Path) -> None:
    """A step that passes it on unchanged gives the same digest, where the library writes what it has read alike."""
    row.skip_if_absent()
    if not row.writes_alike:
        pytest.skip("the library itself writes what it has read in other bytes")
    assert_resaves_identically(row.make, tmp_path)


@pytest.mark.parametrize("metadata", [None, {}, {"k": "v"}])
def test_arrow_table_without_columns_keeps_its_rows(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    """A table of no columns and three rows comes back with three rows (not in the table: deepcopy loses them)."""
    saved = REGISTRY.save(pa.table({"a": [1, 2, 3]}).replace_schema_metadata(metadata).select([]), tmp_path)
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


def test_image_that_pillow_would_not_open_comes_back(tmp_path: Path) -> None:
    """An image of more pixels than Pillow reads from a file comes back (not in the table: it takes half a gigabyte)."""
    image = Image.new("1", (13_400, 13_400))
    image.putpixel((13_399, 13_399), 1)
    saved = REGISTRY.save(image, tmp_path)
    loaded = REGISTRY.load(tmp_path, saved.encoding)
    assert (loaded.mode, loaded.size, loaded.getbbox()) == ("1", image.size, image.getbbox())
