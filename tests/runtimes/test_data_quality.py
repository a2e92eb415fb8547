"""Promises of the example that checks flights with every validator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_zen import load
from tests.harness import run_dag

_EXAMPLE = Path(__file__).parents[2] / "dags_examples/data_quality.py"
_LIBRARIES = ("built_in", "pandera", "pointblank", "great_expectations", "evidently", "whylogs")


def _of_every_tenth_flight(text: str) -> str:
    """Return the example with a tenth of its rows: the validators' own time grows with them."""
    for whole, part in (('"flights.csv.zip")', '"flights.csv.zip")[::10]'), ("min=20_000", "min=2_000")):
        assert text.count(whole) == 1
        text = text.replace(whole, part)
    return text


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_data_quality(load_dag_file: Any, root: Any) -> None:
    """Each validator passes the good month and fails the broken one; merged profiles are of all flights."""
    module = load_dag_file(_of_every_tenth_flight(_EXAMPLE.read_text()), "data_quality")
    run = run_dag(module.data_quality())
    assert set(run.states.values()) == {"success"}, run.states
    for library in _LIBRARIES:
        good, broken = (load(run.xcom(f"{month}_{library}")) for month in ("good", "broken"))
        assert good.passed, (library, good.failures)
        assert not broken.passed, library
    assert load(run.xcom("whole_year")).rows == 33_678
    assert [run.xcom("profiles", map_index=at)["encoding"] for at in range(2)] == ["whylogs.profile@1"] * 2
    again = run_dag(module.data_quality())
    assert all(again.xcom(f"good_{library}")["cached"] for library in _LIBRARIES)
