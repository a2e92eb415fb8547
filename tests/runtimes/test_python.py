"""Promises of the runtime `Python`: a step under another interpreter, without Airflow."""

from airflow_zen import load

_HEADER = """
from datetime import datetime
from airflow.sdk import dag
from airflow_zen import Output, log_metadata, ml_step
import os, sys

FACTOR = 3

def scaled(value: int) -> int:
    return value * FACTOR
"""


def test_a_step_runs_under_the_interpreter(run_small, small_python):
    """The function runs in the other process, with the helpers and constants of its file, and without Airflow and pandas."""
    run = run_small(
        _HEADER
        + """
@ml_step
def where(value: int) -> Output(executable=str, scaled=int, modules=list[str]):
    found = sorted({name.partition(".")[0] for name in sys.modules})
    return sys.executable, scaled(value), [name for name in found if name in ("airflow", "mlflow", "pandas", "numpy", "fsspec")]

@dag(schedule=None)
def pipeline():
    where(2)
"""
    )
    assert run.states == {"where": "success"}, run.tasks[-1].error
    found = {name: load(wire) for name, wire in run.xcom("where").items()}
    assert found == {"executable": small_python, "scaled": 6, "modules": []}
