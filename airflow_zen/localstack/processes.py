"""Background processes that outlive the command that starts them, and that a later command identifies and stops."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

MARK_VARIABLE = "AIRFLOW_ZEN_STACK"


class Process(msgspec.Struct, frozen=True):
    """One process as it was started.

    started: seconds since the epoch, as the operating system reports it. With the pid it identifies a process.
    """

    pid: int
    started: float

    def is_running(self) -> bool:
        """Whether this process still runs, and its pid was not reused."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 2 and _is_alive(process)
        return False


def launch(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start `command` in its own session, without a terminal, and append its output to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, env=dict(environment), start_new_session=True, **streams)


def start_process(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start `command` as `launch` does; return what identifies the process."""
    child = launch(command, environment, log)
    return Process(child.pid, psutil.Process(child.pid).create_time())


def stop_processes(
    processes: Iterable[Process], mark: str, keep: Iterable[Process] = (), grace: float = 6
) -> list[psutil.Process]:
    """Stop these processes and all their descendants; return those that cannot be stopped.

    mark: value of the environment variable `MARK_VARIABLE`, which identifies descendants whose parent has ended.
    keep: processes with the same mark that stay, with their descendants. grace: seconds between SIGTERM to `processes`
    and SIGTERM to their descendants; SIGKILL follows 2 seconds later.
    """
    mains = [psutil.Process(process.pid) for process in processes if process.is_running()]
    parents = [psutil.Process(process.pid) for process in keep if process.is_running()]

    def family() -> set[psutil.Process]:
        # Before the descendants of those that stay, which start others meanwhile.
        found = {*_with_descendants(mains), *find_marked_processes(mark)}
        # A command with the stack's environment, and its shell, have the mark too.
        return found - {*_with_descendants(parents), psutil.Process(), *psutil.Process().parents()}

    first = family()
    _signal_and_wait(mains, signal.SIGTERM, grace)
    left = _signal_and_wait(first | family(), signal.SIGTERM, 2)
    _signal_and_wait(left, signal.SIGKILL, 5)
    return [process for process in first | family() if _is_alive(process)]


def find_marked_processes(mark: str) -> list[psutil.Process]:
    """Return every process of this user that inherited the mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK_VARIABLE) == mark and _is_alive(process):
                found.append(process)
    return found


def marked_environments() -> Iterator[dict[str, str]]:
    """Yield the environment of every process of this user that belongs to any local stack."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if MARK_VARIABLE in (environment := process.environ()):
                yield environment


def _with_descendants(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    found = set()
    for process in processes:
        found.add(process)
        with suppress(psutil.Error):
            found.update(process.children(recursive=True))
    return found


def _signal_and_wait(
    processes: Iterable[psutil.Process], number: signal.Signals, timeout: float
) -> list[psutil.Process]:
    """Send a signal, and return the processes that are alive after `timeout` seconds."""
    left = list(processes)
    for process in left:
        with suppress(psutil.Error):
            process.send_signal(number)
    # Not psutil.wait_procs: it waits for zombies too, and without an init process zombies stay.
    deadline = time.monotonic() + timeout
    while (left := [process for process in left if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return True
        # Reap a child of this process.
        process.wait(0)
    return False
