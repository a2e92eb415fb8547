"""Promises of the example with a library that cannot live beside Airflow."""

import importlib.util
from pathlib import Path

import pytest

from airflow_zen import load
from tests.harness import run_dag

_EXAMPLE = Path(__file__).parents[2] / "dags_examples/old_library.py"


@pytest.mark.slow
def test_an_old_library_beside_airflow(load_dag_file, root):
    """The example's forecast runs under pandas 2 and pydantic 1, and the steps around it beside Airflow."""
    assert importlib.util.find_spec("gluonts") is None
    module = load_dag_file(_EXAMPLE.read_text(), "old_library")
    run = run_dag(module.old_library())
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    assert load(run.xcom("busiest")) == "JFK"
    assert list(load(run.xcom("forecast")).columns) == ["day_ahead", "EWR", "JFK", "LGA"]
