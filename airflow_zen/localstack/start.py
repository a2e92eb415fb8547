"""One start of a local stack: what runs stays, what is missing is started, and everything is waited for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from airflow_zen.localstack.metadata_database import DATABASE_VARIABLE
from airflow_zen.localstack.processes import start_process
from airflow_zen.localstack.services import AIRFLOW_SERVICES, MIGRATE_COMMAND, Service, service_environment, services_of
from airflow_zen.localstack.state import LocalStack, StackError, write_state
from airflow_zen.progress import Progress, ProgressCallback, ignore_progress

Echo = Callable[[str], None]


class StackStarter:
    """Bring `stack` up; at any moment `stack` is what runs, also on disk, so that `down` finds every process."""

    def __init__(
        self, stack: LocalStack, echo: Echo, timeout: float, on_progress: ProgressCallback = ignore_progress
    ) -> None:
        self.stack = replace(stack, processes=stack.running_processes())
        self._layout = stack.layout
        self._echo = echo
        self._on_progress = on_progress
        self._started_at = time.monotonic()
        self._deadline = self._started_at + timeout

    def run(self) -> None:
        """Start the parts that do not run, and wait until all are ready."""
        variables = service_environment(self._layout, self.stack.settings)
        migration = self._start_migration(variables)
        self._report_waiting(services_of(self._layout))
        # What needs nothing of Airflow's starts while the metadata database is made.
        for service in services_of(self._layout):
            if service not in AIRFLOW_SERVICES:
                self._start(service, variables)
        if migration:
            self._finish_migration(migration)
        for service in AIRFLOW_SERVICES:
            self._start(service, variables)
        self._wait_until_ready()

    def _start(self, service: Service, variables: Mapping[str, str]) -> None:
        if service.name in self.stack.processes:
            return
        process = start_process(service.name, service.command(self._layout), variables, self._layout.log(service.name))
        self.stack = replace(self.stack, processes={**self.stack.processes, service.name: process})
        write_state(self.stack)

    def _start_migration(self, variables: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        if any(service.name in self.stack.processes for service in AIRFLOW_SERVICES) or self._is_migrated():
            return None
        log = self._layout.log("db-migrate")
        for directory in (log.parent, self._migration_marker.parent):
            directory.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                MIGRATE_COMMAND, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(variables)
            )

    def _is_migrated(self) -> bool:
        """Tell whether Airflow has made its tables; nobody knows what has become of a database of the user's own."""
        if DATABASE_VARIABLE in self.stack.settings:
            return False
        return self._migration_marker.exists() and self._migration_marker.read_text() == _airflow_version()

    def _finish_migration(self, migration: subprocess.Popen[bytes]) -> None:
        try:
            code = migration.wait(self._deadline - time.monotonic())
        except subprocess.TimeoutExpired as error:
            raise self._startup_error("db-migrate", "did not end in time") from error
        finally:
            migration.kill()
            migration.wait()
        if code:
            raise self._startup_error("db-migrate", f"ended with {code}")
        if DATABASE_VARIABLE not in self.stack.settings:
            self._migration_marker.write_text(_airflow_version())
        self._report_ready("metadata database")

    def _wait_until_ready(self) -> None:
        waiting = list(services_of(self._layout))
        while waiting := [service for service in waiting if not self._is_ready(service)]:
            self._report_waiting(waiting)
            if time.monotonic() > self._deadline:
                raise self._startup_error(waiting[0].name, "was not ready in time")
            time.sleep(0.1)

    def _report_waiting(self, waiting: Collection[Service]) -> None:
        services = services_of(self._layout)
        names = ", ".join(service.name for service in waiting)
        self._on_progress(
            Progress("Parts that are ready", len(services) - len(waiting), len(services), f"waiting for {names}")
        )

    def _is_ready(self, service: Service) -> bool:
        process = self.stack.processes[service.name]
        if not process.is_running():
            raise self._startup_error(service.name, "ended by itself")
        if not service.ready(self._layout, process):
            return False
        self._report_ready(service.name)
        return True

    def _report_ready(self, name: str) -> None:
        self._echo(f"  {name:<18} ready after {time.monotonic() - self._started_at:4.1f} s")

    def _startup_error(self, name: str, what: str) -> StackError:
        log = self._layout.log(name)
        return StackError(f"{name} {what}. The end of {log}:\n{_log_tail(log)}")

    @property
    def _migration_marker(self) -> Path:
        return self._layout.directory / "airflow" / "migrated"


def _airflow_version() -> str:
    return version("apache-airflow-core")


def _log_tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
