"""Start a server, wait until it answers, stop it."""

from __future__ import annotations

import atexit
import fcntl
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Protocol

# Below those that Linux and macOS hand to whoever connects, and above those that servers have by default.
_PORTS = range(10_000, 32_000)
# Ports that this process has named, each held for it by a socket of UDP, which no server here speaks.
_named: list[socket.socket] = []
# A file system in memory, which Linux has. Small files on a disk cost ten times the CPU, and a commit waits for it.
_MEMORY = Path("/dev/shm")
_MEMORY_NEEDED = 2 * 1024**3  # bytes
_PREFIX = "zen-tests-"
# The variable with the directory of the process that started the workers of a test run.
RUN_DIRECTORY = "ZEN_TESTS_RUN_DIRECTORY"


def memory_directory(prefix: str) -> Path:
    """Return a new directory, in memory if the machine has such a file system; it is deleted when this process ends."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=process_directory()))


@cache
def process_directory() -> Path:
    """Return the directory of this process, locked while it lives; the first call deletes those of killed processes."""
    has_memory = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _MEMORY_NEEDED
    parent = _MEMORY if has_memory else Path(tempfile.gettempdir())
    with _locked(parent):
        for abandoned in parent.glob(f"{_PREFIX}*"):
            with suppress(OSError), _locked(abandoned, fcntl.LOCK_NB):
                shutil.rmtree(abandoned, ignore_errors=True)
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # PostgreSQL runs as nobody where we are root.
        directory.chmod(0o711)
        lock = ExitStack()
        lock.enter_context(_locked(directory))
    atexit.register(_delete, directory, lock, os.getpid())
    return directory


@contextmanager
def made_once(name: str) -> Iterator[Path]:
    """Yield the path of a file that the first worker of a test run makes in the block, while the others wait."""
    directory = Path(os.environ.setdefault(RUN_DIRECTORY, str(process_directory())))
    with (directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory / name


@contextmanager
def _locked(directory: Path, wait: int = 0) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | wait)
        yield
    finally:
        os.close(descriptor)


def _delete(directory: Path, lock: ExitStack, owner: int) -> None:
    # A forked process ends without having made it.
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)
        lock.close()


class ServerProcess(Protocol):
    """The part of `subprocess.Popen` that is used here; the process leads a group of its own."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def wait(self, timeout: float | None = None) -> object: ...


class ServerFailed(RuntimeError):
    """A server ended, or did not answer in time."""


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    answers: Callable[[], bool],
    timeout: float = 240,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` from when it `answers` until the block ends.

    timeout: seconds until it must answer. environment: added to this process's own.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    with stopped_at_end(process, log, answers, timeout):
        yield process


@contextmanager
def stopped_at_end(
    process: ServerProcess, log: Path, answers: Callable[[], bool], timeout: float = 240
) -> Iterator[None]:
    """Wait until a started process answers; stop it when the block ends."""
    try:
        _wait(process, answers, log, timeout)
        yield
    finally:
        stop(process)


def stop(process: ServerProcess, grace: float = 5) -> None:
    """End the process and what it started: first asked, after `grace` seconds forced."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    # The server was started as leader of its own group, so this reaches its children and nobody else.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def free_port() -> int:
    """Name a loopback port that nobody listens on, and that no other process of tests is given while this one lives."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder = socket.socket(type=socket.SOCK_DGRAM)
            try:
                holder.bind(("127.0.0.1", port))
                listener.bind(("127.0.0.1", port))
            except OSError:
                holder.close()
                continue
        _named.append(holder)
        return port
    raise ServerFailed(f"No port of {_PORTS} is free.")


def accepts(port: int) -> bool:
    """Whether something listens on the loopback port."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _wait(process: ServerProcess, answers: Callable[[], bool], log: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not answers():
        if (code := process.poll()) is not None:
            raise ServerFailed(f"{process!r} ended with {code}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"{process!r} did not answer within {timeout:g} s:\n{_tail(log)}")
        time.sleep(0.02)


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
