"""Workers as on separate machines: no worker can read the files of another."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.docker.compose import Service
from tests.docker.here import ServicePaths

# No account has these; a group needs none to own files and processes.
_FIRST_GROUP = 64001


@dataclass(frozen=True)
class Machine(ServicePaths):
    """Everything that one worker sees; what it has in common with another are addresses.

    name: of the worker. group: alone can read what is here; None where we are not root, who can hand out groups.
    """

    name: str = ""
    group: int | None = None

    def home(self, service: str) -> Path:
        """Return the one home there is."""
        return self.directory

    def command(self, service: Service) -> list[str]:
        """Run it as the machine's group."""
        return [*self.prefix(), *super().command(service)]

    def prefix(self) -> list[str]:
        """Return the words that run a command with this machine's rights.

        The user stays, for the tests' Python may lie in root's own home; the capability goes that lets root read
        what belongs to others, and so do all others.
        """
        if self.group is None:
            return []
        return ["setpriv", f"--regid={self.group}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]

    def environment(self, service: Service) -> dict[str, str]:
        """Add what else would lie on a common disk, and a name for user code to give."""
        told = super().environment(service)
        return {**told, "TMPDIR": str(self.directory / "tmp"), "USER": self.name, "LOGNAME": self.name}


def with_name_and_queues(worker: Service, name: str, queues: str) -> Service:
    """Set the worker's own name, as each container has one, and its queues."""
    health = [word.replace("$(hostname)", name) for word in worker.health]
    return replace(worker, name=name, command=[*worker.command[:-1], queues, "--celery-hostname", name], health=health)


@contextmanager
def machines(paths: ServicePaths, workers: Sequence[Service]) -> Iterator[dict[str, Machine]]:
    """Yield a machine for each worker; its files are deleted when the block ends."""
    found = {worker.name: _machine(paths, worker, number) for number, worker in enumerate(workers)}
    try:
        yield found
    finally:
        for machine in found.values():
            shutil.rmtree(machine.directory, ignore_errors=True)


def power_off(process: subprocess.Popen[bytes]) -> int:
    """Kill a process with all its descendants, without SIGTERM."""
    seen: dict[int, psutil.Process] = {}
    # First all are stopped: what runs could start more, and whose parent has died is found no longer.
    while new := [one for one in _tree(process.pid) if one.pid not in seen]:
        for one in new:
            one.suspend()
            seen[one.pid] = one
    for one in seen.values():
        one.kill()
    process.wait()
    return len(seen)


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _machine(paths: ServicePaths, worker: Service, number: int) -> Machine:
    directory = Path(tempfile.mkdtemp(prefix=f"zen-{worker.name}-"))
    given = directory / "given"
    given.mkdir()
    for name in worker.secrets:
        shutil.copy(paths.secrets / name, given)
    shutil.copytree(paths.dags, directory / "dags")
    (directory / "tmp").mkdir()
    group = _FIRST_GROUP + number if os.geteuid() == 0 and shutil.which("setpriv") else None
    machine = Machine(directory, given, directory / "dags", paths.ports, worker.name, group)
    machine.translated_secrets()
    if group is not None:
        for path in [directory, *directory.rglob("*")]:
            os.chown(path, pwd.getpwnam("nobody").pw_uid, group)
            path.chmod(path.stat().st_mode | 0o660 | (0o110 if path.is_dir() else 0))
    return machine
