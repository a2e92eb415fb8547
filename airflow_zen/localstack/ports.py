"""Loopback ports that no other stack of this machine is about to take."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self


class PortReservation:
    """Reserve ports from when they are chosen until their servers listen, which is when the block ends."""

    def __init__(self) -> None:
        self._locks = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._locks.close()

    def reserve(self, preferred: int) -> int:
        """Name a port that nobody listens on or has reserved; `wanted` where it is one."""
        port = free_port(preferred)
        while not self._lock_port(port):
            port = free_port()
        return port

    def _lock_port(self, port: int) -> bool:
        path = Path(tempfile.gettempdir(), f"airflow-zen-{os.getuid()}-port-{port}.lock")
        lock = self._locks.enter_context(path.open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def free_port(preferred: int = 0) -> int:
    """Name a loopback port that nobody listens on; `wanted` where it is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", preferred))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
