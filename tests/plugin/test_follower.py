"""Promises of `airflow_zen.plugin.follower`: the process that called it goes on at once, and nothing is forgotten."""

import json
import os
import sys
import time

import pytest

from airflow_zen.lineage.ended import EndedDagRun
from airflow_zen.lineage.step_run import StepState
from airflow_zen.plugin.follower import OWED, Follower

# Writes what it was given into a file, waits, and ends with the exit code in another file.
_PROCESS = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "given").open("a") as file:
    file.write(sys.stdin.read() + "\\n")
time.sleep(float((folder / "seconds").read_text()))
sys.exit(int((folder / "code").read_text()))
"""


@pytest.fixture
def process(tmp_path):
    (tmp_path / "seconds").write_text("0")
    (tmp_path / "code").write_text("0")
    return [sys.executable, "-c", _PROCESS, str(tmp_path)]


@pytest.fixture
def given(tmp_path):
    """Give the run ids that each process was given."""

    def read():
        path = tmp_path / "given"
        lines = path.read_text().splitlines() if path.exists() else []
        return [[run["run_id"] for run in json.loads(line)] for line in lines]

    return read


def until(reached):
    last = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < last
        time.sleep(0.01)


def run(run_id):
    return EndedDagRun("d", run_id, StepState.FINISHED, 1.0)


def test_the_caller_goes_on_at_once(process, given, tmp_path):
    """However long the process takes, the one who tells of a DAG run does not wait."""
    (tmp_path / "seconds").write_text("1")
    follower = Follower(process)
    began = time.monotonic()
    follower.follow(run("a"))
    assert time.monotonic() - began < 0.5
    assert follower.settle(20)
    assert given() == [["a"]]


def test_one_process_at_a_time(process, given, tmp_path):
    """DAG runs that end while a process works are gathered for the next one."""
    (tmp_path / "seconds").write_text("0.5")
    follower = Follower(process)
    follower.follow(run("a"))
    while not given():
        time.sleep(0.01)
    for name in "bcd":
        follower.follow(run(name))
    assert follower.settle(20)
    assert given() == [["a"], ["b", "c", "d"]]


def test_it_tries_again_while_something_is_owed(process, given, tmp_path):
    """While MLflow is away the process is started again after a pause, and no more once nothing is owed."""
    (tmp_path / "code").write_text(str(OWED))
    follower = Follower(process, retry=0.05)
    follower.follow(run("a"))
    while len(given()) < 2:
        time.sleep(0.01)
    (tmp_path / "code").write_text("0")
    time.sleep(1)
    tried = len(given())
    time.sleep(0.7)
    assert given() == [["a"], *[[]] * (tried - 1)]


@pytest.mark.parametrize(("code", "seconds"), [("1", "0"), ("0", "30")])
def test_runs_that_a_failed_process_had_are_given_again(process, given, tmp_path, monkeypatch, code, seconds):
    """A process that fails or hangs has taken no DAG run: the next one is given the same, and those after them."""
    monkeypatch.setattr("airflow_zen.plugin.follower._LONGEST", 0.7)
    (tmp_path / "code").write_text(code)
    (tmp_path / "seconds").write_text(seconds)
    follower = Follower(process, retry=0.05)
    follower.follow(run("a"))
    until(lambda: len(given()) > 1)
    follower.follow(run("b"))
    until(lambda: given()[-1] == ["a", "b"])
    (tmp_path / "seconds").write_text("0")
    (tmp_path / "code").write_text("0")
    time.sleep(2)
    tried = len(given())
    follower.follow(run("c"))
    assert follower.settle(20)
    assert given()[0] == ["a"]
    assert given()[tried - 1 :] == [["a", "b"], ["c"]]


def test_a_process_that_cannot_start(caplog):
    """A process that cannot be started is told in the log, and costs nothing else."""
    follower = Follower(["/no/such/program"])
    follower.follow(run("a"))
    assert follower.settle(10)
    assert "is not shown in MLflow yet" in caplog.text


def test_it_works_after_a_fork(process, given):
    """A process forked from one that has followed DAG runs follows its own."""
    follower = Follower(process)
    follower.follow(run("a"))
    assert follower.settle(20)
    if not (child := os.fork()):
        follower.follow(run("b"))
        os._exit(0 if follower.settle(20) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert given() == [["a"], ["b"]]
