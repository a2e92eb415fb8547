"""Tests of the peak memory of loading and saving a frame, for every type of column."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_zen.materializers.arrow import parquet_writer
from tests.materializers.round_trip import REGISTRY, make_directory

# Peaks are measured for a whole process, so each column has its own. Those of Arrow, and of NumPy and Python's objects,
# need not coincide, so their sum is an upper bound. Row groups are small, since the memory beside the frame is that of
# a row group.
PEAKS = """
import json, os, sys, tempfile, tracemalloc
from pathlib import Path
import numpy, pandas, pyarrow
from airflow_zen.materializers.arrow import parquet_writer
parquet_writer.MAX_ROW_GROUP_SIZE = int(sys.argv[2])
from airflow_zen.materializers.pandas import frames
from airflow_zen.materializers.registry import default_registry
registry, pool = default_registry(), pyarrow.default_memory_pool()
with tempfile.TemporaryDirectory() as first:
    registry.save(pandas.DataFrame({"imports": ["what a save needs"]}), Path(first))
    registry.load(Path(first), "pandas.parquet@1")
for directory in sorted(Path(sys.argv[1]).iterdir()):
    if os.fork():
        os.wait()
        continue
    tracemalloc.start()
    value = registry.load(directory, "pandas.parquet@1")
    loading = pool.max_memory() + tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    (directory / "again").mkdir()
    registry.save(value, directory / "again")
    saving = pool.max_memory() + tracemalloc.get_traced_memory()[1]
    size = int(numpy.sum(value.memory_usage(deep=True)))
    print(json.dumps({directory.name: {"load": loading / size, "save": saving / size}}), flush=True)
    os._exit(0)
"""
GROUP = 1 << 13
ROWS = 120 * GROUP


def _numbers(rows: int = ROWS) -> Any:
    return np.random.default_rng(0).integers(0, 10**9, rows)


def _texts(dtype: Any, rows: int = ROWS // 8) -> Any:
    return pd.Series([f"some text {n}" for n in _numbers(rows)], dtype=dtype)


COLUMNS: dict[str, Callable[[], Any]] = {
    "numbers, by row": lambda: pd.DataFrame(np.random.default_rng(0).standard_normal((ROWS, 2))),
    "strings": lambda: _texts("str", ROWS // 2),
    "strings of another storage": lambda: _texts("string[python]"),
    "strings that may be NA": lambda: _texts("string[pyarrow]", ROWS // 2),
    "objects, text": lambda: _texts(object),
    "objects of several types": lambda: pd.Series(np.where(_numbers(ROWS // 8) % 2, _texts(object), 0.5), dtype=object),
    "in a time zone": lambda: pd.Series(pd.to_datetime(_numbers(), unit="s", utc=True)).dt.tz_convert("Europe/Paris"),
    "periods": lambda: pd.Series(pd.PeriodIndex.from_ordinals(_numbers() % 10**6, freq="D")),
    "categories": lambda: pd.Series(
        pd.Categorical.from_codes(_numbers(4 * ROWS) % 100, [f"label {n}" for n in range(100)])
    ),
    "ordinary index": lambda: pd.Series(np.arange(ROWS), index=_numbers()),
    "index of two levels": lambda: pd.Series(
        np.arange(ROWS), index=pd.MultiIndex.from_arrays([_numbers() % 9, _numbers() % 1000])
    ),
    "nullable": lambda: pd.Series(_numbers(), dtype="Int64").where(_numbers() % 3 > 0),
    "complex": lambda: pd.Series(_numbers() * 1j),
    "intervals": lambda: pd.Series(pd.arrays.IntervalArray.from_arrays(_numbers(), _numbers() + 1)),
    "of Arrow": lambda: pd.Series(_numbers(), dtype="int64[pyarrow]"),
}

SPARSE: dict[str, Callable[[], Any]] = {
    kind: lambda kind=kind: pd.Series(
        pd.arrays.SparseArray(np.where(_numbers() % 400 < 8, 1.0, 0.0), fill_value=0.0, kind=kind)
    )
    for kind in ("integer", "block")
}
"""One value in fifty is stored: these columns need a thirtieth of the memory that they would need as floats."""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Load each column, and save it again; return both peaks as multiples of the column's own memory."""
    root = tmp_path_factory.mktemp("peaks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_writer, "MAX_ROW_GROUP_SIZE", GROUP)
        for name, make in (COLUMNS | SPARSE).items():
            REGISTRY.save(make(), make_directory(root, name))
    command = [sys.executable, "-c", PEAKS, str(root), str(GROUP)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in COLUMNS | SPARSE:
        stored = root / name / parquet_writer.FILE_NAME
        assert (root / name / "again" / parquet_writer.FILE_NAME).read_bytes() == stored.read_bytes(), done.stderr
    return {name: figures for line in done.stdout.splitlines() for name, figures in json.loads(line).items()}


@pytest.mark.parametrize("verb", ["load", "save"])
@pytest.mark.parametrize("name", COLUMNS)
def test_column_of_any_kind_is_in_memory_once(name: str, verb: str, peaks: dict[str, dict[str, float]]) -> None:
    """Loading or saving a table of many row groups takes less than 1.5 times its own memory."""
    assert 0.9 < peaks[name][verb] < 1.5


@pytest.mark.parametrize("verb", ["load", "save"])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_column_stays_sparse(name: str, verb: str, peaks: dict[str, dict[str, float]]) -> None:
    """Loading or saving a sparse column makes one row group of it dense at a time, never the whole column."""
    assert 0.9 < peaks[name][verb] < 10
