"""Containers as processes of this machine: no isolation, but real exit codes, signals, output and memory limits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.servers.kubernetes.containers import Ended, Launch, Mount

# Seconds between two looks at a container's memory: a limit is exceeded for as long.
_SAMPLING = 0.02
_OUT_OF_MEMORY = 137


class Processes:
    """Run containers as processes in `directory`.

    A container has its image's and its own environment, not this process's. What it mounts is a link at the mount path,
    which must be free and in a folder that the user can write; it goes when the container ends. The memory limit is
    enforced by looking at the processes' memory, and killing them as the kernel would.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self, launch: Launch) -> Process:
        """Start a container; raise `FileNotFoundError` for a command that does not exist."""
        if shutil.which(launch.command[0], path=launch.environment.get("PATH", os.defpath)) is None:
            raise FileNotFoundError(f'exec: "{launch.command[0]}": executable file not found in $PATH')
        directory = self._directory / launch.identity
        directory.mkdir(parents=True)
        return Process(launch, directory)


class Process:
    """One container: a process that leads its own group, and what it started."""

    def __init__(self, launch: Launch, directory: Path) -> None:
        self._memory = launch.memory
        self._out_of_memory = False
        self._links = [_link(mount) for mount in launch.mounts]
        self._process = subprocess.Popen(
            [*_supervised(), *launch.command],
            cwd=launch.directory or directory,
            env={"PATH": os.defpath, **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._family: dict[int, psutil.Process] = {}
        self._guardian = threading.Thread(target=self._guard, daemon=True)
        self._guardian.start()

    def ended(self) -> Ended | None:
        """Return how it ended; None while it runs, or something is left of it. 128 and its number is a signal's exit code."""
        code = self._process.poll()
        if code is None or self._guardian.is_alive():
            return None
        return Ended(_OUT_OF_MEMORY if self._out_of_memory else code if code >= 0 else 128 - code, self._out_of_memory)

    def lines(self) -> Iterator[bytes]:
        """Yield its output line by line until all who could write have ended."""
        assert self._process.stdout is not None
        with self._process.stdout as output:
            yield from output

    def terminate(self) -> None:
        """Send SIGTERM to its first process."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to all of its processes, also those that left its group."""
        for process in [*self._members(), *self._family.values()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _guard(self) -> None:
        """Kill the container at its memory limit, and whatever is left when its first process has ended."""
        while self._process.poll() is None:
            members = self._members()
            if self._memory is not None and sum(map(_resident, members)) > self._memory:
                self._out_of_memory = True
                self.kill()
            time.sleep(_SAMPLING)
        self.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for link in self._links:
            link.unlink(missing_ok=True)

    def _members(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self._process.pid)
            found = [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
        self._family.update({process.pid: process for process in found})
        return found


def _supervised() -> list[str]:
    """Return what to start a command with so that it does not outlive this process."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _link(mount: Mount) -> Path:
    link = Path(mount.target)
    link.symlink_to(mount.source)
    return link


def environment_of(*names: str) -> Mapping[str, str]:
    """Return variables of this process for an image's environment."""
    return {name: os.environ[name] for name in names if name in os.environ}
