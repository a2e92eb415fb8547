"""Promises of the runtime `Python`: a step under another interpreter, without Airflow."""

import os
import sys
from pathlib import Path

from airflow_zen import load
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.runtimes import Python
from airflow_zen.runtimes.environments import Environments
from airflow_zen.runtimes.virtualenv import Resolved
from airflow_zen.steps.resources import ResourceMeter
from tests.harness import run_dag

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


def test_what_the_other_process_used_is_recorded(run_small):
    """The record of the step has what the other process used, and not what the task's process did."""
    run = run_small(
        _HEADER
        + """
@ml_step
def fill(megabytes: int) -> int:
    return len(bytearray(megabytes * 1_000_000))

@dag(schedule=None)
def pipeline():
    fill(300)
"""
    )
    assert run.states == {"fill": "success"}, run.tasks[-1].error
    (record,) = open_stack(Settings.read()).records.read_dag_run("pipeline", "manual__1")
    here = ResourceMeter().start().stop()
    assert record.resources.peak_memory >= 300_000_000
    assert record.resources.read_bytes > 0
    assert record.resources.cpu_seconds > 0
    assert here.peak_memory != record.resources.peak_memory


_TWO_RELEASES = """
import pandas as pd
from airflow.sdk import dag
from airflow_zen import ml_step
from airflow_zen.runtimes import InProcess

@ml_step
def old(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b"], "day": pd.to_datetime(["2026-01-01", "2026-01-02"])})

@ml_step
def new(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", "b"], "day": pd.to_datetime(["2026-01-01", "2026-01-02"])})

@ml_step
def types(old: pd.DataFrame, new: pd.DataFrame) -> dict:
    return {name: list(map(str, frame.dtypes)) for name, frame in {"old": old, "new": new}.items()}

@ml_step
def types_here(old: pd.DataFrame, new: pd.DataFrame) -> dict:
    return {name: list(map(str, frame.dtypes)) for name, frame in {"old": old, "new": new}.items()}

@dag(schedule=None)
def pipeline():
    frames = old.override(runtime="OTHER")(2), new(2)
    types.override(runtime="OTHER")(*frames)
    types_here(*frames)
"""


def test_two_releases_of_pandas(load_dag_file, root, tables_python):
    """Text and dates are stored as a release makes them, and loaded as that under the other one."""
    module = load_dag_file(_TWO_RELEASES.replace('"OTHER"', repr(repr(Python(tables_python)))))
    run = run_dag(module.pipeline())
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    old, new = ["object", "datetime64[ns]"], ["str", "datetime64[us]"]
    assert load(run.xcom("types_here")) == {"old": old, "new": new}
    assert load(run.xcom("types")) == {"old": old, "new": new}


_SUM = """
from airflow.sdk import dag
from airflow_zen import ml_step

@ml_step
def adds(value: int) -> int:
    return value + 1

@dag(schedule=None)
def pipeline():
    adds(1)
"""


def test_a_hit_starts_nothing(run_file, tmp_path):
    """A reused result needs no process; another version of an installed distribution is another key."""
    environments = Environments(tmp_path / "environments", 1 << 40)
    with environments.use(Resolved("blake3\nmsgspec==0.21.1\n", "", sys.executable), None) as interpreter:
        runtime = Python(interpreter)
        assert not run_file(_SUM, runtime).xcom("adds")["cached"]
        executable = Path(interpreter)
        original = executable.readlink()
        executable.unlink()
        executable.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
        executable.chmod(0o755)
        assert run_file(_SUM, runtime, run_id="manual__2").xcom("adds")["cached"]
        assert not (tmp_path / "started").exists()
        executable.unlink()
        executable.symlink_to(original)
        (metadata,) = executable.parent.parent.glob("lib/*/site-packages/msgspec-*.dist-info/METADATA")
        text = metadata.read_text().replace("Version: 0.21.1", "Version: 0.21.2")
        metadata.unlink()
        metadata.write_text(text)
        os.utime(metadata.parent.parent)
        assert not run_file(_SUM, runtime, run_id="manual__3").xcom("adds")["cached"]
