"""Background processes that outlive the command that starts them, and are recognised and stopped by a later one."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK_VARIABLE = "AIRFLOW_ZEN_STACK"


@dataclass(frozen=True)
class Process:
    """One process as it was started.

    started: seconds since the epoch, as the system tells them; with the pid they name a process for ever.
    """

    name: str
    pid: int
    started: float
    log: str

    def is_running(self) -> bool:
        """Tell whether this very process still runs, and not another that got its pid."""
        return _is_running(self.pid, self.started)


def start_process(name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start `command` in a session of its own, with no terminal; its output is appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    return Process(name, child.pid, psutil.Process(child.pid).create_time(), str(log))


def stop_processes(
    processes: Iterable[Process], mark: str, keep: Iterable[Process] = (), grace: float = 6
) -> list[psutil.Process]:
    """Stop these processes and everything they started; gives what could not be stopped.

    mark: value of the environment variable `MARK`, by which a child is found though its parent is gone.
    keep: processes with the same mark that stay, and everything they started. grace: seconds between being asked and
    being forced.
    """
    mains = _running_processes(processes)
    kept = _running_processes(keep)
    family = _processes_to_stop(mains, mark, kept)
    _send_signal(mains, signal.SIGTERM)
    _wait_for_exit(mains, grace)
    # What the parents did not take with them: a task that runs, a child that lost its parent.
    family |= _processes_to_stop([], mark, kept)
    _send_signal(family, signal.SIGTERM)
    _send_signal(_wait_for_exit(family, 2), signal.SIGKILL)
    return _wait_for_exit(family | _processes_to_stop([], mark, kept), 5)


def find_marked_processes(mark: str) -> list[psutil.Process]:
    """Find every process, of this user, that inherited the mark."""
    return [
        process
        for process in psutil.process_iter()
        if _environment(process).get(MARK_VARIABLE) == mark and _is_alive(process)
    ]


def _running_processes(processes: Iterable[Process]) -> list[psutil.Process]:
    return [psutil.Process(process.pid) for process in processes if process.is_running()]


def _processes_to_stop(mains: Iterable[psutil.Process], mark: str, kept: list[psutil.Process]) -> set[psutil.Process]:
    # A command that is given the stack's own environment has the mark too, and so has the shell that it was typed into.
    ours = {psutil.Process(), *psutil.Process().parents()}
    return {*mains, *_descendants(mains), *(set(find_marked_processes(mark)) - ours)} - {*kept, *_descendants(kept)}


def _descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in processes:
        with suppress(psutil.Error):
            found += process.children(recursive=True)
    return found


def _environment(process: psutil.Process) -> Mapping[str, str]:
    with suppress(psutil.Error, OSError):
        return dict(process.environ())
    return {}


def _send_signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _wait_for_exit(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    # Not psutil.wait_procs: it waits for zombies too, and where no init process reaps them they stay.
    deadline = time.monotonic() + timeout
    left = _reap_exited(processes)
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = _reap_exited(left)
    return left


def _reap_exited(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    left = []
    for process in processes:
        if _is_alive(process):
            left.append(process)
        else:
            with suppress(psutil.Error):
                process.wait(0)
    return left


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_running(pid: int, started: float) -> bool:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 2 and _is_alive(process)
    return False
