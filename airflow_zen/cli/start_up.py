"""One start of a local stack: what runs stays, what is missing is started, and everything is waited for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from airflow_zen.cli.local_parts import AIRFLOW_PARTS, MIGRATE, Part, environment, parts_of
from airflow_zen.cli.metadata_database import VARIABLE
from airflow_zen.cli.processes import start
from airflow_zen.cli.stack_state import LocalStack, StackError, write_state
from airflow_zen.progress import Progress, Tell, unheard

Say = Callable[[str], None]


class StartUp:
    """Bring `stack` up; at any moment `stack` is what runs, also on disk, so that `down` finds every process."""

    def __init__(self, stack: LocalStack, say: Say, timeout: float, tell: Tell = unheard) -> None:
        self.stack = replace(stack, processes=stack.running())
        self._layout = stack.layout
        self._say = say
        self._tell = tell
        self._begun = time.monotonic()
        self._deadline = self._begun + timeout

    def run(self) -> None:
        """Start the parts that do not run, and wait until all are ready."""
        variables = environment(self._layout, self.stack.settings)
        migration = self._start_migration(variables)
        self._tell_of(parts_of(self._layout))
        # What needs nothing of Airflow's starts while the metadata database is made.
        for part in parts_of(self._layout):
            if part not in AIRFLOW_PARTS:
                self._start(part, variables)
        if migration:
            self._finish(migration)
        for part in AIRFLOW_PARTS:
            self._start(part, variables)
        self._wait_until_ready()

    def _start(self, part: Part, variables: Mapping[str, str]) -> None:
        if part.name in self.stack.processes:
            return
        process = start(part.name, part.command(self._layout), variables, self._layout.log(part.name))
        self.stack = replace(self.stack, processes={**self.stack.processes, part.name: process})
        write_state(self.stack)

    def _start_migration(self, variables: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        if any(part.name in self.stack.processes for part in AIRFLOW_PARTS) or self._is_migrated():
            return None
        log = self._layout.log("db-migrate")
        for directory in (log.parent, self._migrated.parent):
            directory.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                MIGRATE, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(variables)
            )

    def _is_migrated(self) -> bool:
        """Tell whether Airflow has made its tables; nobody knows what has become of a database of the user's own."""
        if VARIABLE in self.stack.settings:
            return False
        return self._migrated.exists() and self._migrated.read_text() == _airflow_version()

    def _finish(self, migration: subprocess.Popen[bytes]) -> None:
        try:
            code = migration.wait(self._deadline - time.monotonic())
        except subprocess.TimeoutExpired as error:
            raise self._failure("db-migrate", "did not end in time") from error
        finally:
            migration.kill()
            migration.wait()
        if code:
            raise self._failure("db-migrate", f"ended with {code}")
        if VARIABLE not in self.stack.settings:
            self._migrated.write_text(_airflow_version())
        self._ready("metadata database")

    def _wait_until_ready(self) -> None:
        waiting = list(parts_of(self._layout))
        while waiting := [part for part in waiting if not self._is_ready(part)]:
            self._tell_of(waiting)
            if time.monotonic() > self._deadline:
                raise self._failure(waiting[0].name, "was not ready in time")
            time.sleep(0.1)

    def _tell_of(self, waiting: Collection[Part]) -> None:
        parts = parts_of(self._layout)
        names = ", ".join(part.name for part in waiting)
        self._tell(Progress("Parts that are ready", len(parts) - len(waiting), len(parts), f"waiting for {names}"))

    def _is_ready(self, part: Part) -> bool:
        process = self.stack.processes[part.name]
        if not process.running():
            raise self._failure(part.name, "ended by itself")
        if not part.ready(self._layout, process):
            return False
        self._ready(part.name)
        return True

    def _ready(self, name: str) -> None:
        self._say(f"  {name:<18} ready after {time.monotonic() - self._begun:4.1f} s")

    def _failure(self, name: str, what: str) -> StackError:
        log = self._layout.log(name)
        return StackError(f"{name} {what}. The end of {log}:\n{_tail(log)}")

    @property
    def _migrated(self) -> Path:
        return self._layout.directory / "airflow" / "migrated"


def _airflow_version() -> str:
    return version("apache-airflow-core")


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
