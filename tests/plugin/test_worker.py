"""Promises of `airflow_zen.plugin.worker`: the process that called it goes on at once, and nothing is forgotten."""

import json
import os
import subprocess
import sys
import time

import pytest

from airflow_zen.plugin.worker import EXIT_CODE_PENDING, DagRunWorker, next_retry_delay
from airflow_zen.runs.step_run import FinishedDagRun, StepState

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
_TIMEOUT = 120


@pytest.fixture
def command(tmp_path):
    (tmp_path / "code").write_text("0")
    return [sys.executable, "-c", _PROCESS, str(tmp_path)]


@pytest.fixture
def hold_file(tmp_path):
    """Keep every process from ending while the file exists."""
    path = tmp_path / "hold"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def received_runs(tmp_path):
    """Return a function for the run ids that each process got."""

    def read():
        requests = map(json.loads, read_lines(tmp_path / "given"))
        return [[ended_run["run_id"] for ended_run in request["runs"]] for request in requests]

    return read


@pytest.fixture
def exit_codes(tmp_path):
    """Return a function for the exit codes of ended processes."""
    return lambda: read_lines(tmp_path / "ended")


def read_lines(path):
    return path.read_text().splitlines() if path.exists() else []


def wait_until(condition):
    last = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.01)


def new_worker(command, **options):
    """Return a worker for which there is no stack."""
    return DagRunWorker(command, find_stacks=tuple, **options)


def ended_run(run_id):
    return FinishedDagRun("d", run_id, StepState.FINISHED, 1.0)


def test_the_caller_does_not_wait(command, received_runs, hold_file):
    """`enqueue` does not wait for the process."""
    worker = new_worker(command)
    worker.enqueue(ended_run("a"))
    assert not worker.drain(0)
    hold_file.unlink()
    assert worker.drain(_TIMEOUT)
    assert received_runs() == [["a"]]


def test_one_process_at_a_time(command, received_runs, hold_file):
    """DAG runs that end while a process runs are collected for the next one."""
    worker = new_worker(command)
    worker.enqueue(ended_run("a"))
    wait_until(received_runs)
    for name in "bcd":
        worker.enqueue(ended_run(name))
    hold_file.unlink()
    assert worker.drain(_TIMEOUT)
    assert received_runs() == [["a"], ["b", "c", "d"]]


def test_it_retries_while_lineage_is_pending(command, received_runs, exit_codes, tmp_path):
    """While lineage is pending the process is started again after a delay, and not after it is delivered."""
    (tmp_path / "code").write_text(str(EXIT_CODE_PENDING))
    worker = new_worker(command, retry_delay=0.05)
    worker.enqueue(ended_run("a"))
    wait_until(lambda: len(received_runs()) > 1)
    # By a rename, for a process may be reading.
    (tmp_path / "none").write_text("0")
    (tmp_path / "none").rename(tmp_path / "code")
    wait_until(lambda: "0" in exit_codes())
    tried = len(received_runs())
    time.sleep(0.7)
    assert received_runs() == [["a"], *[[]] * (tried - 1)]
    assert exit_codes() == [str(EXIT_CODE_PENDING)] * (tried - 1) + ["0"]


@pytest.mark.parametrize("code", [EXIT_CODE_PENDING, 1, None])
def test_the_delays_between_tries(code):
    """While lineage is pending it is tried after 1, 2, 4, 8 and then every 10 minutes, until it succeeds."""
    pauses = [next_retry_delay(code, None)]
    for _ in range(6):
        pauses.append(next_retry_delay(code, pauses[-1]))
    assert pauses == [60, 120, 240, 480, 600, 600, 600]
    assert next_retry_delay(0, pauses[-1]) is None
    assert next_retry_delay(code, next_retry_delay(0, 600)) == 60


@pytest.mark.parametrize("hangs", [False, True])
def test_runs_of_a_failed_process_are_passed_again(
    command, received_runs, exit_codes, hold_file, tmp_path, monkeypatch, hangs
):
    """The DAG runs of a process that fails or hangs are passed to the next one, with later ones."""
    if hangs:
        monkeypatch.setattr("airflow_zen.plugin.worker.PROCESS_TIMEOUT", 1.0)
    else:
        (tmp_path / "code").write_text("1")
        hold_file.unlink()
    worker = new_worker(command, retry_delay=0.05)
    worker.enqueue(ended_run("a"))
    wait_until(lambda: len(received_runs()) > 1)
    worker.enqueue(ended_run("b"))
    wait_until(lambda: received_runs()[-1] == ["a", "b"])
    monkeypatch.setattr("airflow_zen.plugin.worker.PROCESS_TIMEOUT", _TIMEOUT)
    seen = len(received_runs())
    wait_until(lambda: len(received_runs()) > seen)
    (tmp_path / "none").write_text("0")
    (tmp_path / "none").rename(tmp_path / "code")
    hold_file.unlink(missing_ok=True)
    wait_until(lambda: "0" in exit_codes())
    tried = len(received_runs())
    worker.enqueue(ended_run("c"))
    assert worker.drain(_TIMEOUT)
    assert received_runs()[0] == ["a"]
    assert received_runs()[tried - 1 :] == [["a", "b"], ["c"]]


def test_a_process_that_cannot_start(caplog):
    """A process that cannot be started is logged."""
    worker = new_worker(["/no/such/program"])
    worker.enqueue(ended_run("a"))
    assert worker.drain(_TIMEOUT)
    assert "is not shown in MLflow yet" in caplog.text


def test_it_reconciles_once(tmp_path):
    """The first DAG run in a process starts the delivery and the search for missed ends, once."""
    starts = tmp_path / "starts"
    write = f"import sys; open({str(starts)!r}, 'a').write(f'{{sys.stdin.read()}} {{sys.argv[1:]}}\\n')"
    worker = new_worker([sys.executable, "-c", write])
    assert not worker.reconciled
    worker.reconcile()
    assert worker.drain(_TIMEOUT)
    worker.reconcile()
    assert worker.drain(_TIMEOUT)
    assert worker.reconciled
    worker.enqueue(ended_run("a"))
    assert worker.drain(_TIMEOUT)
    first, second = starts.read_text().splitlines()
    assert first == """{"runs":[],"stacks":[],"is_backfill":false} ['--catch-up']"""
    assert ('"run_id":"a"' in second, second.endswith(" []")) == (True, True)


def test_runs_of_a_backfill_are_marked(command, hold_file, received_runs, tmp_path):
    """A process is told that a run is a backfill's, also when the run ends while another process works; others are not."""
    worker = new_worker(command)
    worker.enqueue(ended_run("a"), is_backfill=True)
    wait_until(received_runs)
    worker.enqueue(ended_run("b"), is_backfill=True)
    hold_file.unlink()
    assert worker.drain(_TIMEOUT)
    worker.enqueue(ended_run("c"))
    assert worker.drain(_TIMEOUT)
    assert received_runs() == [["a"], ["b"], ["c"]]
    assert [json.loads(line)["is_backfill"] for line in read_lines(tmp_path / "given")] == [True, True, False]


def test_settings_that_cannot_be_read(command, received_runs, caplog):
    """While the stacks cannot be read the runs are kept, and passed on when they can be."""
    answers = iter([ValueError("no such option")])

    def find_stacks():
        for error in answers:
            raise error
        return ()

    worker = DagRunWorker(command, retry_delay=0.05, find_stacks=find_stacks)
    worker.enqueue(ended_run("a"))
    wait_until(received_runs)
    assert received_runs() == [["a"]]
    assert "no such option" in caplog.text


_SHORT_PROCESS = """
import json, sys, time
from airflow_zen.plugin.worker import DagRunWorker
from airflow_zen.runs.step_run import FinishedDagRun, StepState

worker = DagRunWorker(json.loads(sys.argv[1]), find_stacks=tuple)
for name in sys.argv[2].split(","):
    worker.enqueue(FinishedDagRun("d", name, StepState.FINISHED, 1.0))
    time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize("pause", [0, 0.5])
def test_a_short_process_does_not_linger(command, received_runs, exit_codes, hold_file, pause):
    """A process that ends while its child process works ends at once; the child, and what waited for it, go on."""
    script = [sys.executable, "-c", _SHORT_PROCESS, json.dumps(command), "a,b", str(pause)]
    # Its children hold no pipe of it, or reading its output would not end.
    assert subprocess.run(script, capture_output=True, timeout=_TIMEOUT).returncode == 0
    wait_until(lambda: {run for runs in received_runs() for run in runs} == {"a", "b"})
    assert not exit_codes()
    hold_file.unlink()
    wait_until(lambda: len(exit_codes()) == len(received_runs()))


def test_a_process_that_ends_is_not_asked_twice(command, received_runs):
    """A process whose DAG runs are all finalized starts nothing when it ends."""
    worker = new_worker(command)
    worker.enqueue(ended_run("a"))
    assert worker.drain(_TIMEOUT)
    worker.hand_over()
    time.sleep(0.2)
    assert received_runs() == [["a"]]


def test_it_works_after_a_fork(command, received_runs):
    """A forked process finalizes its own DAG runs."""
    worker = new_worker(command)
    worker.enqueue(ended_run("a"))
    assert worker.drain(_TIMEOUT)
    if not (child := os.fork()):
        worker.enqueue(ended_run("b"))
        os._exit(0 if worker.drain(_TIMEOUT) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert received_runs() == [["a"], ["b"]]
