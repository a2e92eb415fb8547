"""Promises of `airflow zen runs`."""

import json
from argparse import Namespace

import pytest

from airflow_zen.cli import runs
from tests.cli.test_cache_contents import pipeline
from tests.harness import run_dag


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


@pytest.fixture
def zen(capsys):
    """Return a function that calls a command and returns its rows, or its text for a table."""

    def call(function, **options):
        capsys.readouterr()
        defaults = {"dag_id": None, "run_id": None, "limit": 20, "stack": None, "output": "json", "verbose": False}
        function.func(Namespace(**{**defaults, **options}))
        told = capsys.readouterr().out
        return told if "output" in options else json.loads(told)

    return call


def test_shows_the_step_runs_of_a_dag_run(zen):
    """Each step run is shown in order with state, reuse and its reason, duration, use and outputs; a failure with its error."""
    run_dag(pipeline("one"), run_id="r1")
    run_dag(pipeline("one"), run_id="r2")
    run_dag(pipeline("one", 13), run_id="r3")
    shown = {run_id: zen(runs.show_step_runs, dag_id="one", run_id=run_id) for run_id in ("r1", "r2", "r3")}
    assert [(row["step"], row["cache"]) for row in shown["r1"]] == [("number", "miss"), ("double", "miss")]
    assert shown["r2"][1]["why"] == "of one/r1/double/-1/1"
    assert (shown["r3"][1]["state"], shown["r3"][1]["why"]) == ("FAILED", "ValueError: no luck")
    assert int(shown["r1"][0]["used"]["peak_memory"]) > 1_000_000
    assert int(shown["r2"][0]["used"]["peak_memory"]) == 0
    assert " CPU" in zen(runs.show_step_runs, dag_id="one", run_id="r1", output="table")
    assert "one/double" in zen(runs.show_step_runs, dag_id="one", run_id="r1", output="table")
    with pytest.raises(SystemExit, match="No step run of one/r9"):
        zen(runs.show_step_runs, dag_id="one", run_id="r9")


def test_shows_the_latest_run(zen):
    """Without a run id the run with the newest record is shown, with its id; a DAG that never ran is an error."""
    run_dag(pipeline("one"), run_id="z/first")
    run_dag(pipeline("one"), run_id="a/second")
    run_dag(pipeline("two"), run_id="later")
    assert {row["cache"] for row in zen(runs.show_step_runs, dag_id="one")} == {"hit"}
    assert zen(runs.show_step_runs, dag_id="one", output="table").startswith("a/second\n")
    with pytest.raises(SystemExit, match="No step run of three is recorded"):
        zen(runs.show_step_runs, dag_id="three")


def test_lists_dag_runs(zen):
    """DAG runs are listed newest first, with the number of steps that were reused, computed and failed, and limited."""
    run_dag(pipeline("one"), run_id="z/first")
    run_dag(pipeline("two"), run_id="r")
    run_dag(pipeline("one"), run_id="a/second")
    run_dag(pipeline("one", 13), run_id="r")
    rows = zen(runs.list_dag_runs)
    assert [(row["dag"], row["run"]) for row in rows] == [
        ("one", "r"),
        ("one", "a/second"),
        ("two", "r"),
        ("one", "z/first"),
    ]
    assert [(row["steps"], row["reused"], row["computed"], row["failed"]) for row in rows[:2]] == [
        ("2", "0", "1", "1"),
        ("2", "2", "0", "0"),
    ]
    assert [row["run"] for row in zen(runs.list_dag_runs, dag_id="one", limit=2)] == ["r", "a/second"]
    with pytest.raises(SystemExit, match="No step run of three"):
        zen(runs.list_dag_runs, dag_id="three")
