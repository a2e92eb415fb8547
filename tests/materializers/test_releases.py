"""Artifacts that older releases of a library wrote stay readable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from airflow_zen.materializers.registry import default_registry
from airflow_zen.runtimes.environments import find_uv
from tests.materializers.sameness import assert_same

PANDAS_2_3 = Path(__file__).parent / "written_by_pandas_2_3"


def test_frame_of_pandas_2_is_read_by_this_pandas() -> None:
    """A frame that pandas 2.3 saved has the same dtypes here; its text columns are still objects."""
    zone = pd.Series(pd.date_range("2024", periods=2, tz=_pandas_2_zone("Europe/Paris"), unit="ns"))
    expected = pd.DataFrame(
        {
            "n": [1, 2],
            "o": pd.Series(["a", None], dtype=object),
            "s": pd.array(["a", None], dtype="string[python]"),
            "z": zone,
            "c": pd.Categorical(["x", None], pd.Index(["x", "y"], dtype=object)),
            "i": pd.array([1, None], dtype="Int64"),
        }
    ).set_axis(pd.Index(["r", "t"], name="key", dtype=object), axis=0)
    assert_same(expected, default_registry().load(PANDAS_2_3, "pandas.parquet@1"))


@pytest.mark.ml
@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="installs releases of libraries: make test-ml")
@pytest.mark.parametrize("requirements", [["pyarrow==26.*"], ["pandas==2.3.*", "pytz"]], ids=["pyarrow", "pandas"])
def test_other_releases_write_equal_bytes(requirements: list[str], tmp_path: Path) -> None:
    """Equal values are equal files with another release of pyarrow and of pandas, in every encoding of the core."""
    install = [find_uv() or "uv", "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
    subprocess.run([*install, "--target", str(tmp_path), *requirements], check=True)
    there, here = _digests(str(tmp_path)), _digests()
    assert {name: found for name, found in there.items() if found != here[name]} == {}
    assert len(there) > 30


@cache
def _digests(*first: str) -> dict[str, str]:
    """Return the digests in a process of its own, in which Keras begins to number its layers."""
    path = os.pathsep.join([*first, str(Path(__file__).parents[2])])
    command = [sys.executable, "-m", "tests.materializers.digests"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def _pandas_2_zone(name: str) -> Any:
    """Return the zone as pytz, which pandas 2 uses, or the next best where that is not installed."""
    try:
        import pytz
    except ModuleNotFoundError:
        return ZoneInfo(name)
    return pytz.timezone(name)
