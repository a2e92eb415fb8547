"""Tests of frames that are loaded row group by row group."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.arrow import parquet_writer
from airflow_zen.materializers.pandas import columns, frames
from tests.materializers.pandas_values import ROWS
from tests.materializers.round_trip import REGISTRY, make_directory
from tests.materializers.sameness import assert_same

# Peaks are measured for a whole process, so it does nothing else. Those of Arrow and NumPy need not coincide.
LOAD = """
import sys, tracemalloc
from pathlib import Path
import pandas, pyarrow
from airflow_zen.materializers.registry import default_registry
tracemalloc.start()
loaded = default_registry().load(Path(sys.argv[1]), "pandas.parquet@1")
print(pyarrow.default_memory_pool().max_memory() + tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("value", ROWS.values(), ids=ROWS.keys())
def test_value_comes_back_exactly_from_many_groups(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a column holds, it comes back the same when each row is a row group."""
    # A module imported later would keep the patched function.
    assert frames.row_group_size is parquet_writer.row_group_size
    monkeypatch.setattr(parquet_writer, "row_group_size", lambda schema: 1)
    saved = REGISTRY.save(value, tmp_path)
    assert_same(value, REGISTRY.load(tmp_path, saved.encoding))


def test_frame_is_loaded_in_little_more_than_its_own_memory(tmp_path: Path) -> None:
    """Loading a frame of numbers and text needs the memory of a few row groups beside the frame."""
    rows, random = 8 * parquet_writer.MAX_ROW_GROUP_SIZE, np.random.default_rng(0)
    frame = pd.DataFrame({f"f{n}": random.standard_normal(rows) for n in range(4)}).assign(
        i=random.integers(0, 10**9, rows), s=random.choice(["some text", "other text"], rows)
    )
    REGISTRY.save(frame, tmp_path)
    size = int(frame.memory_usage(deep=True).sum())
    done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True, check=True)
    assert size < int(done.stdout) < 1.35 * size


def test_neighboring_columns_of_one_dtype_share_an_array(tmp_path: Path) -> None:
    """A frame of floats is one array, which can be passed to a model without a copy."""
    saved = REGISTRY.save(pd.DataFrame({"a": [0.5, None], "b": [1.5, 2.5]}), make_directory(tmp_path, "stored"))
    loaded = REGISTRY.load(tmp_path / "stored", saved.encoding)
    assert np.shares_memory(loaded.to_numpy(), loaded["a"].to_numpy())
    assert np.shares_memory(loaded.to_numpy(), loaded["b"].to_numpy())


def test_loaded_frame_can_be_changed(tmp_path: Path) -> None:
    """Every cell of a loaded frame can be assigned to, and the artifact does not change."""
    frame = pd.DataFrame({"f": [0.5], "i": [1], "t": pd.to_datetime(["2024"]), "b": [True], "s": ["x"]})
    saved = REGISTRY.save(frame, tmp_path)
    loaded = REGISTRY.load(tmp_path, saved.encoding)
    loaded.loc[0] = [1.5, 2, pd.Timestamp("2025"), False, "y"]
    assert loaded.to_dict("list") == {"f": [1.5], "i": [2], "t": [pd.Timestamp("2025")], "b": [False], "s": ["y"]}
    assert_same(frame, REGISTRY.load(tmp_path, saved.encoding))


@pytest.mark.parametrize("column", [pa.array([1, None]), pa.array([True, None])])
def test_nulls_in_numpy_integers_are_refused(column: pa.Array, tmp_path: Path) -> None:
    """Integers and booleans with nulls do not silently become another dtype; read as Arrow, as the error says, they are kept."""
    pq.write_table(pa.table({"x": column}), tmp_path / "table.parquet")
    with pytest.raises(ArtifactRefused, match=r"'x' of .* has nulls and no metadata .*\. Read it as a pyarrow\.Table"):
        REGISTRY.load(tmp_path, "pandas.parquet@1")
    assert REGISTRY.load(tmp_path, "pandas.parquet@1", pa.Table)["x"].combine_chunks() == column


def test_a_cell_that_is_not_one_value_is_refused() -> None:
    """Cells are parsed together, and a cell that would become two is refused."""
    assert columns._parse_cells(['"a"', "[1,2]", '{"$":"tuple","items":[1]}']) == ["a", [1, 2], (1,)]
    with pytest.raises(ArtifactRefused, match="cell of a table"):
        columns._parse_cells(["1", "2,3"])
