"""Print a hash of the files of many values: `python -m tests.materializers.digests`, with any releases of the libraries."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from airflow_zen.materializers.registry import default_registry
from tests.materializers.encoding_values import WRITTEN

# Their frames have labels of another dtype in each release of pandas, their files are no function of the value, or the
# library does not work with pyarrow 26.
_LEFT_OUT = ("cloudpickle", "datasets", "geopandas", "matplotlib", "pandas", "xgboost")


def _frame(**columns: Any) -> pd.DataFrame:
    """Return a frame whose labels are those that each release of pandas makes of names."""
    return pd.DataFrame(columns)


FRAMES: dict[str, Callable[[], Any]] = {
    "numbers": lambda: _frame(i=[1, 2], f=[0.5, None], b=[True, False], u=np.array([1, 2], "u1")),
    "nullable": lambda: _frame(i=pd.array([1, None], "Int64"), b=pd.array([True, None], "boolean")),
    "texts": lambda: _frame(o=pd.Series(["a", None], dtype=object), s=pd.array(["a", None], "string[python]")),
    "texts in Arrow": lambda: _frame(
        s=pd.array(["a", None], "string[pyarrow]"), n=pd.array([1.5, None], "float64[pyarrow]")
    ),
    "times": lambda: _frame(
        ns=pd.date_range("2024", periods=2, unit="ns"), us=pd.date_range("2024", periods=2, unit="us", tz="UTC")
    ),
    "periods": lambda: _frame(p=pd.period_range("2024", periods=2, freq="M"), i=pd.interval_range(0, 2)),
    "categories": lambda: _frame(c=pd.Categorical(["x", None], pd.Index(["x", "y"], dtype=object))),
    "sparse": lambda: _frame(s=pd.arrays.SparseArray([0, 1, 0])),
    "index of two levels": lambda: pd.Series(
        [1, 2], index=pd.MultiIndex.from_arrays([pd.Index(["a", "b"], dtype=object), [1, 2]], names=["k", None])
    ),
    "in a dict": lambda: {"table": _frame(a=[1]), "n": 1},
}


def digests() -> dict[str, str]:
    """Return the hash of the files of each value, by its name."""
    values = dict(FRAMES)
    for encoding, written in WRITTEN.items():
        if encoding.partition(".")[0].partition("@")[0] not in _LEFT_OUT:
            values |= {f"{encoding} {name}": each.make for name, each in written.items() if each.readable}
    return {name: _digest(make()) for name, make in values.items()}


def _digest(value: Any) -> str:
    with TemporaryDirectory() as directory:
        default_registry().save(value, Path(directory))
        files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()[:16]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(digests()))
