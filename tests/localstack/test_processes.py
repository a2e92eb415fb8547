"""Background processes: started, recognised, stopped with everything they started."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from airflow_zen.localstack.processes import MARK_VARIABLE, find_marked_processes, start_process, stop_processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# A parent that ignores being asked, with a child in a session of its own.
FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def mark():
    """A mark of this test; whatever still carries it at the end is stopped."""
    mark = os.urandom(8).hex()
    yield mark
    stop_processes([], mark, grace=0)


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid):
    """Tell whether there is more of a process than its exit code, which may be fetched at any moment."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_runs_without_us(tmp_path, mark):
    """A process writes to its log, and leads a session of its own, so that no terminal takes it down."""
    process = start_process(
        "p", [sys.executable, "-c", "print('hello')"], {**os.environ, MARK_VARIABLE: mark}, tmp_path / "logs" / "p.log"
    )
    wait_for(lambda: "hello" in (tmp_path / "logs" / "p.log").read_text())
    wait_for(lambda: not process.is_running())


def test_leads_its_session(tmp_path, mark):
    """A process is not in the session of the command that started it."""
    process = start_process("p", SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_other_process_with_the_same_pid(tmp_path, mark):
    """A process that got the pid of one that ended is not taken for it."""
    process = start_process("p", SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    assert process.is_running()
    assert not replace(process, started=process.started - 60).is_running()


def test_leaves_a_stranger_alone(tmp_path, mark):
    """Stopping a record whose pid now belongs to another process stops nothing."""
    stranger = subprocess.Popen(SLEEP)
    try:
        ours = start_process("p", SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
        assert stop_processes([replace(ours, pid=stranger.pid, started=ours.started - 60)], mark) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stops_the_whole_family(tmp_path, mark):
    """A parent that ignores SIGTERM is killed, and its child in another session goes too."""
    parent = start_process("p", [sys.executable, "-c", FAMILY], {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    wait_for(lambda: "ready" in (tmp_path / "p.log").read_text())
    family = [parent.pid, *(child.pid for child in psutil.Process(parent.pid).children())]
    assert len(family) == 2
    assert stop_processes([parent], mark, grace=0.2) == []
    assert not any(map(is_alive, family))


def test_stops_an_orphan(tmp_path, mark):
    """A child whose parent was killed is found by its mark."""
    parent = start_process("p", [sys.executable, "-c", FAMILY], {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    wait_for(lambda: "ready" in (tmp_path / "p.log").read_text())
    os.kill(parent.pid, signal.SIGKILL)
    wait_for(lambda: not parent.is_running())
    assert len(find_marked_processes(mark)) == 1
    assert stop_processes([parent], mark) == []
    assert find_marked_processes(mark) == []


def test_keeps_what_is_to_be_kept(tmp_path, mark):
    """Of two processes with one mark only the one that shall go goes."""
    one = start_process("one", SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "one.log")
    other = start_process("other", SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "other.log")
    assert stop_processes([one], mark, keep=[other]) == []
    assert (one.is_running(), other.is_running()) == (False, True)


def test_stops_neither_who_asks_nor_the_shell(tmp_path, mark):
    """A command with the stack's own environment, typed into a shell that has it too, outlives what it stops."""
    process = start_process("p", SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    code = f"from airflow_zen.localstack.processes import stop_processes; print('left', stop_processes([], {mark!r}))"
    shell = f'{sys.executable} -c "{code}"; echo the shell lives'
    told = subprocess.run(shell, shell=True, env={**os.environ, MARK_VARIABLE: mark}, capture_output=True, text=True)
    assert told.stdout.splitlines() == ["left []", "the shell lives"]
    wait_for(lambda: not process.is_running())
