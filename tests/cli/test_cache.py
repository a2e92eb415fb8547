"""Promises of `airflow zen cache`."""

import subprocess
import sys
from argparse import Namespace
from datetime import datetime

import pytest
from airflow.sdk import dag

from airflow_zen import ml_step
from airflow_zen.cli.cache import explain_task
from tests.airflow_command import call
from tests.harness import run_dag

FACTOR = 2


def scale(x: int) -> int:
    return x * FACTOR


@ml_step
def work(x: int) -> int:
    return scale(x) + 1


@dag(dag_id="explained", schedule=None, start_date=datetime(2026, 1, 1))
def explained(x=1):
    work(x)


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


def call_explain(run=None):
    explain_task.func(Namespace(dag_id="explained", task_id="work", run=run, stack=None))


def test_explains_what_changed(capsys, monkeypatch):
    """The ingredient that differs is shown with its old and its new value."""
    run_dag(explained(), run_id="r1")
    monkeypatch.setitem(globals(), "FACTOR", 3)
    run_dag(explained(), run_id="r2")
    call_explain()
    told = capsys.readouterr().out
    assert "explained/r2/work/-1/1 computed" in told
    assert "Compared with explained/r1/work/-1/1" in told
    assert "constant FACTOR" in told
    assert "function" not in told.split("Compared")[1]


def test_explains_a_run(capsys):
    """A hit is shown with the run whose result it reused; it has no computed result to explain."""
    run_dag(explained(), run_id="r1")
    run_dag(explained(), run_id="r2")
    with pytest.raises(SystemExit, match="No computed result"):
        call_explain("r2")
    assert "hit, reused from explained/r1/work/-1/1" in capsys.readouterr().out
    call_explain("r1")
    assert "miss (no earlier result of this task is remembered)" in capsys.readouterr().out


def test_nothing_to_explain():
    """A task that never ran is reported."""
    with pytest.raises(SystemExit, match="explained/work"):
        call_explain()


def test_a_source_change_is_shown_as_a_diff(tmp_path):
    """A changed function is shown as a diff of its source, by Airflow's own command line."""
    file = tmp_path / "flow.py"
    script = (
        "from datetime import datetime\nfrom airflow.sdk import dag\nfrom airflow_zen import ml_step\n"
        "from tests.harness import run_dag\n"
        "def clean(x):\n    return x + {n}\n@ml_step\ndef work(x: int) -> int:\n    return clean(x)\n"
        "@dag(dag_id='flow', schedule=None, start_date=datetime(2026, 1, 1))\ndef flow():\n    work(1)\n"
        "assert run_dag(flow(), run_id='r{n}').states == {{'work': 'success'}}\n"
    )
    for n in (1, 2):
        file.write_text(script.format(n=n))
        subprocess.run([sys.executable, file], check=True, capture_output=True)
    code, told, _ = call("zen", "cache", "explain", "flow", "work")
    assert code == 0
    assert "-    return x + 1" in told
    assert "+    return x + 2" in told
    assert "function work" not in told
