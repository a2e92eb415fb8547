"""Promises of input values that several processes share."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from airflow_zen.steps.shared_values import read_shared_values, write_shared_values

ROWS = 1_000_000
_TEXTS = [f"text {number}" for number in range(ROWS)]
_TABLE = pd.DataFrame(
    {"number": np.arange(ROWS), "text": _TEXTS, "when": pd.date_range("2026", periods=ROWS, freq="s", tz="UTC")}
)
VALUES = {
    "array": np.random.default_rng(0).random((ROWS, 4)),
    "arrow": pa.table({"number": np.arange(ROWS), "text": _TEXTS}),
    "nested": {"parts": [np.ones(ROWS), np.arange(ROWS).astype("datetime64[s]")]},
    "pandas": _TABLE.convert_dtypes(dtype_backend="pyarrow").assign(when=_TABLE["when"], number=_TABLE["number"]),
    "polars": pl.DataFrame({"number": np.arange(ROWS), "text": _TEXTS}),
}
_READER = """
import sys
from pathlib import Path
import numpy, pandas, polars, pyarrow
from airflow_zen.steps.shared_values import read_shared_values

def private():
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) / 1024

before = private()
values = read_shared_values(Path(sys.argv[1]))
print(private() - before)
"""


def test_values_are_as_they_were(tmp_path):
    """Arrays, tables and what contains them come back equal, with their types."""
    write_shared_values(VALUES, tmp_path)
    found = read_shared_values(tmp_path)
    assert np.array_equal(found["array"], VALUES["array"])
    assert found["arrow"].equals(VALUES["arrow"])
    for part, expected in zip(found["nested"]["parts"], VALUES["nested"]["parts"], strict=True):
        assert (part.dtype, part.tolist()[-3:]) == (expected.dtype, expected.tolist()[-3:])
    pd.testing.assert_frame_equal(found["pandas"], VALUES["pandas"])
    assert found["polars"].schema == VALUES["polars"].schema
    assert found["polars"].equals(VALUES["polars"])


@pytest.mark.skipif(sys.platform != "linux", reason="the system says what memory is private")
@pytest.mark.parametrize("name", list(VALUES))
def test_a_process_that_reads_has_no_copy(tmp_path, name):
    """Values of many megabytes add few to the memory of a process of its own that reads them."""
    write_shared_values({name: VALUES[name]}, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 15 * 2**20
    assert (tmp_path / "values.pickle").stat().st_size < 10_000
    used = subprocess.run([sys.executable, "-c", _READER, tmp_path], capture_output=True, check=True, text=True)
    assert float(used.stdout) < 6


def test_what_one_process_writes_no_other_sees(tmp_path):
    """A process may change its values: they are its own then."""
    write_shared_values({"array": np.zeros(1000)}, tmp_path)
    first, second = (read_shared_values(tmp_path)["array"] for _ in range(2))
    first += 1
    assert (first.sum(), second.sum()) == (1000, 0)


def test_types_that_are_not_of_arrow(tmp_path):
    """A polars frame with a type that Arrow lacks comes back as a copy; a value that cannot be pickled is left out."""
    frame = pl.DataFrame({"large": pl.Series([1, 2], dtype=pl.Int128)})
    write_shared_values({"frame": frame, "batches": (number for number in range(3))}, tmp_path)
    found = read_shared_values(tmp_path)
    assert list(found) == ["frame"]
    assert found["frame"].equals(frame)
