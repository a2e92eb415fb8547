"""Background processes: started, identified, and stopped with their descendants."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from msgspec.structs import replace

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
    """A mark of this test; processes with the mark are stopped at its end."""
    mark = os.urandom(8).hex()
    yield mark
    stop_processes([], mark, grace=0)


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid):
    """Whether a process runs, and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_writes_to_its_log(tmp_path, mark):
    """A process writes to its log, whose directory is created."""
    process = start_process(
        [sys.executable, "-c", "print('hello')"], {**os.environ, MARK_VARIABLE: mark}, tmp_path / "logs" / "p.log"
    )
    wait_for(lambda: "hello" in (tmp_path / "logs" / "p.log").read_text())
    wait_for(lambda: not process.is_running())


def test_has_its_own_session(tmp_path, mark):
    """A process is not in the session of the command that started it, so that no terminal stops it."""
    process = start_process(SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_other_process_with_the_same_pid(tmp_path, mark):
    """A process with the pid of an ended one is another process."""
    process = start_process(SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    assert process.is_running()
    assert not replace(process, started=process.started - 60).is_running()


def test_stops_no_other_process(tmp_path, mark):
    """Stopping a record whose pid now belongs to another process stops nothing."""
    stranger = subprocess.Popen(SLEEP)
    try:
        ours = start_process(SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
        assert stop_processes([replace(ours, pid=stranger.pid, started=ours.started - 60)], mark) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stops_descendants(tmp_path, mark):
    """A parent that ignores SIGTERM is killed, and so is its child in another session."""
    parent = start_process([sys.executable, "-c", FAMILY], {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    wait_for(lambda: "ready" in (tmp_path / "p.log").read_text())
    family = [parent.pid, *(child.pid for child in psutil.Process(parent.pid).children())]
    assert len(family) == 2
    assert stop_processes([parent], mark, grace=0.2) == []
    assert not any(map(is_alive, family))


def test_stops_an_orphan(tmp_path, mark):
    """A child whose parent was killed is found by its mark."""
    parent = start_process([sys.executable, "-c", FAMILY], {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    wait_for(lambda: "ready" in (tmp_path / "p.log").read_text())
    os.kill(parent.pid, signal.SIGKILL)
    wait_for(lambda: not parent.is_running())
    assert len(find_marked_processes(mark)) == 1
    assert stop_processes([parent], mark) == []
    assert find_marked_processes(mark) == []


def test_keeps_other_processes(tmp_path, mark):
    """Of two processes with one mark only the given one is stopped."""
    one = start_process(SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "one.log")
    other = start_process(SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "other.log")
    assert stop_processes([one], mark, keep=[other]) == []
    assert (one.is_running(), other.is_running()) == (False, True)


def test_keeps_what_others_start_meanwhile(tmp_path, mark):
    """A process that stays may start processes at any time: these are neither stopped nor named."""
    program = """
import subprocess, time
children = []
while not any(child.poll() for child in children):
    children = [*(child for child in children if child.poll() is None), subprocess.Popen(["sleep", "0.5"])]
    time.sleep(0.02)
"""
    process = start_process([sys.executable, "-c", program], {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    wait_for(lambda: psutil.Process(process.pid).children())
    for _ in range(3):
        assert stop_processes([], mark, keep=[process], grace=0) == []
    time.sleep(0.1)
    assert is_alive(process.pid)


def test_stops_neither_its_caller_nor_the_shell(tmp_path, mark):
    """A command with the stack's own environment, and its shell with the same environment, are not stopped."""
    process = start_process(SLEEP, {**os.environ, MARK_VARIABLE: mark}, tmp_path / "p.log")
    code = f"from airflow_zen.localstack.processes import stop_processes; print('left', stop_processes([], {mark!r}))"
    shell = f'{sys.executable} -c "{code}"; echo the shell lives'
    told = subprocess.run(shell, shell=True, env={**os.environ, MARK_VARIABLE: mark}, capture_output=True, text=True)
    assert told.stdout.splitlines() == ["left []", "the shell lives"]
    wait_for(lambda: not process.is_running())
