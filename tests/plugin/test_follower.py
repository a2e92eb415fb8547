"""Promises of `airflow_zen.plugin.follower`: the process that called it goes on at once, and nothing is forgotten."""

import json
import os
import sys
import time

import pytest

from airflow_zen.lineage.ended import EndedDagRun
from airflow_zen.lineage.step_run import StepState
from airflow_zen.plugin.follower import OWED, Follower, next_pause

# Writes what it was given into a file, waits while there is a file `hold`, and ends with the exit code in another file,
# which it writes down.
_PROCESS = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "given").open("a") as file:
    file.write(sys.stdin.read() + "\\n")
while (folder / "hold").exists():
    time.sleep(0.01)
code = (folder / "code").read_text()
with (folder / "ended").open("a") as file:
    file.write(code + "\\n")
sys.exit(int(code))
"""

# Seconds after which what is waited for will not come, however busy the machine.
_LONG = 120


@pytest.fixture
def process(tmp_path):
    (tmp_path / "code").write_text("0")
    return [sys.executable, "-c", _PROCESS, str(tmp_path)]


@pytest.fixture
def hold(tmp_path):
    """Let no process end before it is let go."""
    path = tmp_path / "hold"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def given(tmp_path):
    """Give the run ids that each process was given."""

    def read():
        return [[run["run_id"] for run in json.loads(line)] for line in lines(tmp_path / "given")]

    return read


@pytest.fixture
def ended(tmp_path):
    """Give the exit code of each process that came to its end."""
    return lambda: lines(tmp_path / "ended")


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def until(reached):
    last = time.monotonic() + _LONG
    while not reached():
        assert time.monotonic() < last
        time.sleep(0.01)


def run(run_id):
    return EndedDagRun("d", run_id, StepState.FINISHED, 1.0)


def test_the_caller_goes_on_at_once(process, given, hold):
    """However long the process takes, the one who tells of a DAG run does not wait."""
    follower = Follower(process)
    follower.follow(run("a"))
    assert not follower.settle(0)
    hold.unlink()
    assert follower.settle(_LONG)
    assert given() == [["a"]]


def test_one_process_at_a_time(process, given, hold):
    """DAG runs that end while a process works are gathered for the next one."""
    follower = Follower(process)
    follower.follow(run("a"))
    until(given)
    for name in "bcd":
        follower.follow(run(name))
    hold.unlink()
    assert follower.settle(_LONG)
    assert given() == [["a"], ["b", "c", "d"]]


def test_it_tries_again_while_something_is_owed(process, given, ended, tmp_path):
    """While MLflow is away the process is started again after a pause, and no more once nothing is owed."""
    (tmp_path / "code").write_text(str(OWED))
    follower = Follower(process, retry=0.05)
    follower.follow(run("a"))
    until(lambda: len(given()) > 1)
    # By a rename, for a process may be reading.
    (tmp_path / "none").write_text("0")
    (tmp_path / "none").rename(tmp_path / "code")
    until(lambda: "0" in ended())
    tried = len(given())
    time.sleep(0.7)
    assert given() == [["a"], *[[]] * (tried - 1)]
    assert ended() == [str(OWED)] * (tried - 1) + ["0"]


@pytest.mark.parametrize("code", [OWED, 1, None])
def test_the_pauses_between_tries(code):
    """While something is owed it is tried after 1, 2, 4, 8 and then every 10 minutes, for ever; a success ends it."""
    pauses = [next_pause(code, None)]
    for _ in range(6):
        pauses.append(next_pause(code, pauses[-1]))
    assert pauses == [60, 120, 240, 480, 600, 600, 600]
    assert next_pause(0, pauses[-1]) is None
    assert next_pause(code, next_pause(0, 600)) == 60


@pytest.mark.parametrize("hangs", [False, True])
def test_runs_that_a_failed_process_had_are_given_again(process, given, ended, hold, tmp_path, monkeypatch, hangs):
    """A process that fails or hangs has taken no DAG run: the next one is given the same, and those after them."""
    if hangs:
        monkeypatch.setattr("airflow_zen.plugin.follower._LONGEST", 1.0)
    else:
        (tmp_path / "code").write_text("1")
        hold.unlink()
    follower = Follower(process, retry=0.05)
    follower.follow(run("a"))
    until(lambda: len(given()) > 1)
    follower.follow(run("b"))
    until(lambda: given()[-1] == ["a", "b"])
    monkeypatch.setattr("airflow_zen.plugin.follower._LONGEST", _LONG)
    seen = len(given())
    until(lambda: len(given()) > seen)
    (tmp_path / "none").write_text("0")
    (tmp_path / "none").rename(tmp_path / "code")
    hold.unlink(missing_ok=True)
    until(lambda: "0" in ended())
    tried = len(given())
    follower.follow(run("c"))
    assert follower.settle(_LONG)
    assert given()[0] == ["a"]
    assert given()[tried - 1 :] == [["a", "b"], ["c"]]


def test_a_process_that_cannot_start(caplog):
    """A process that cannot be started is told in the log, and costs nothing else."""
    follower = Follower(["/no/such/program"])
    follower.follow(run("a"))
    assert follower.settle(_LONG)
    assert "is not shown in MLflow yet" in caplog.text


def test_it_looks_once_for_what_was_left_undone(tmp_path):
    """The first DAG run that a process hears of starts the delivery, and the search for ends that nobody heard, once."""
    starts = tmp_path / "starts"
    write = f"import sys; open({str(starts)!r}, 'a').write(f'{{sys.stdin.read()}} {{sys.argv[1:]}}\\n')"
    follower = Follower([sys.executable, "-c", write])
    assert not follower.looked
    follower.look()
    assert follower.settle(_LONG)
    follower.look()
    assert follower.settle(_LONG)
    assert follower.looked
    follower.follow(run("a"))
    assert follower.settle(_LONG)
    first, second = starts.read_text().splitlines()
    assert first == "[] ['--catch-up']"
    assert ('"run_id": "a"' in second, second.endswith(" []")) == (True, True)


def test_it_works_after_a_fork(process, given):
    """A process forked from one that has followed DAG runs follows its own."""
    follower = Follower(process)
    follower.follow(run("a"))
    assert follower.settle(_LONG)
    if not (child := os.fork()):
        follower.follow(run("b"))
        os._exit(0 if follower.settle(_LONG) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert given() == [["a"], ["b"]]
