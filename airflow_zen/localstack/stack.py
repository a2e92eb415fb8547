"""The local stack: Airflow and MLflow as background processes, with all their state in one directory."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from msgspec.structs import replace

from airflow_zen.localstack.metadata_database import DATABASE_VARIABLE, verify_database
from airflow_zen.localstack.processes import launch, start_process, stop_processes
from airflow_zen.localstack.s3 import find_installed_server, port_count
from airflow_zen.localstack.services import (
    AIRFLOW_SERVICES,
    MIGRATE_COMMAND,
    HttpError,
    Service,
    airflow_token,
    request_json,
    running_services,
    service_environment,
    services_of,
    write_airflow_cfg,
)
from airflow_zen.localstack.state import Layout, LocalStack, StackError, exclusive_lock, read_local_stack, write_state
from airflow_zen.progress import Progress, ProgressCallback, ignore_progress

# Used if they are free, so that URLs stay the same.
AIRFLOW_PORT, MLFLOW_PORT, S3_PORT = 8080, 5000, 8333
AIRFLOW_VERSION = version("apache-airflow-core")
ReservePort = Callable[[int], int]


def start_local_stack(
    directory: Path,
    dags: Path,
    settings: Mapping[str, str] | None = None,
    timeout: float = 300,
    s3: bool = False,
    database: str = "",
    on_progress: ProgressCallback = ignore_progress,
) -> LocalStack:
    """Start the services that do not run, wait until all are ready, and return the stack.

    directory: contains all state; created if missing. dags: the DAGs folder.
    settings: environment variables of every service, such as `AIRFLOW__ZEN__ARTIFACT_ROOT`.
    timeout: seconds until everything must be ready. s3: store artifacts in an S3 server, which is started too.
    database: SQLAlchemy URL of Airflow's metadata database; SQLite in `directory` if it is empty.
    on_progress: receives the number of services that are ready.
    Raises `StackError` with the end of the log of the service that failed; what this call started is stopped again.
    """
    directory, dags = directory.resolve(), dags.resolve()
    if not dags.is_dir():
        raise StackError(f"The DAGs folder {str(dags)!r} is not a directory.")
    variables = {**(settings or {}), **({DATABASE_VARIABLE: verify_database(database)} if database else {})}
    server = find_installed_server() if s3 else ""
    with exclusive_lock(directory), reserve_ports() as reserve:
        planned = _resume_or_plan(directory, dags, variables, reserve, server)
        start = _Start(planned, timeout, on_progress)
        before = start.stack
        # Children of a crashed service would use the same databases as its successor.
        _stop(before, keep=before)
        try:
            start.run()
        except BaseException:
            _stop(start.stack, keep=before)
            raise
        return start.stack


def stop_local_stack(directory: Path, echo: Callable[[str], None] = print) -> None:
    """Stop exactly what `up` started; databases, artifacts and logs stay.

    Raises `StackError` naming the processes that cannot be stopped.
    """
    directory = directory.resolve()
    if not read_local_stack(directory):
        echo(f"Nothing was ever started in {directory}.")
        return
    with exclusive_lock(directory):
        if stack := read_local_stack(directory):
            _stop(stack)
            echo(f"Stopped {', '.join(stack.processes)}." if stack.processes else "Nothing was up.")


def first_dag(layout: Layout) -> str:
    """Return the id of the first DAG in the alphabet that is parsed and not paused; empty after 60 seconds without one.

    Return at once if the DAGs folder contains no Python file, or if a file cannot be imported.
    """
    deadline, headers = time.monotonic() + 60, dict[str, str]()
    while any(layout.dags.rglob("*.py")) and time.monotonic() < deadline:
        try:
            if not headers:
                token = airflow_token(layout.airflow_url, layout.airflow_password)
                headers = {"Authorization": f"Bearer {token}"}
            if dags := _get(layout, "dags?paused=false&order_by=dag_id&limit=1", headers)["dags"]:
                return str(dags[0]["dag_id"])
            if _get(layout, "importErrors?limit=1", headers)["import_errors"]:
                break
        except HttpError:
            # SQLite refuses a request during another process's write.
            pass
        time.sleep(0.3)
    return ""


def _get(layout: Layout, path: str, headers: Mapping[str, str]) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]]
    found = request_json("GET", f"{layout.airflow_url}/api/v2/{path}", headers=headers)
    return found


@contextmanager
def reserve_ports() -> Iterator[ReservePort]:
    """Yield a function that returns a free port, the preferred one if possible.

    No other stack of this machine gets the port before the end of the block, when the servers listen.
    """
    with ExitStack() as locks:

        def reserve(preferred: int) -> int:
            port = free_port(preferred)
            while True:
                path = Path(tempfile.gettempdir(), f"airflow-zen-{os.getuid()}-port-{port}.lock")
                with suppress(BlockingIOError):
                    fcntl.flock(locks.enter_context(path.open("w")), fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return port
                port = free_port()

        yield reserve


def free_port(preferred: int = 0) -> int:
    """Return a loopback port on which no process listens; `preferred` if it is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", preferred))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _resume_or_plan(
    directory: Path, dags: Path, settings: Mapping[str, str], reserve: ReservePort, s3: str
) -> LocalStack:
    """Return the running stack, or a new one on the earlier ports; raise an error for changes of a running stack."""
    stack = read_local_stack(directory)
    if stack is None:
        layout = Layout(directory, dags, reserve(AIRFLOW_PORT), reserve(MLFLOW_PORT), secrets.token_hex(16))
    elif not stack.running_processes():
        airflow_port, mlflow_port = reserve(stack.layout.airflow_port), reserve(stack.layout.mlflow_port)
        layout = replace(stack.layout, dags=dags, airflow_port=airflow_port, mlflow_port=mlflow_port)
    elif (stack.layout.dags, stack.settings, bool(stack.layout.s3_server)) == (dags, settings, bool(s3)):
        return stack
    else:
        raise StackError(
            f"The stack in {directory} is up with the DAGs folder {str(stack.layout.dags)!r}, "
            f"{'an' if stack.layout.s3_server else 'no'} S3 server and the settings {sorted(stack.settings)!r}; stop it "
            "before you start it with others."
        )
    # The S3 server keeps its earlier ports if it is the same: SeaweedFS identifies its parts by them.
    wanted = layout.s3_ports if s3 == layout.s3_server else (S3_PORT, *[0] * (port_count(s3) - 1)) if s3 else ()
    return LocalStack(replace(layout, s3_server=s3, s3_ports=tuple(map(reserve, wanted))), settings, {})


def _stop(stack: LocalStack, keep: LocalStack | None = None) -> None:
    kept = keep.processes if keep else {}
    to_stop = [process for name, process in stack.processes.items() if name not in kept]
    if left := stop_processes(to_stop, stack.layout.mark, kept.values()):
        raise StackError(f"These processes cannot be stopped: {', '.join(map(str, left))}.")
    write_state(replace(stack, processes=kept))


class _Start:
    """One start of a stack; `stack` always lists the running processes, also on disk, so that `down` finds them."""

    def __init__(self, stack: LocalStack, timeout: float, on_progress: ProgressCallback) -> None:
        self.stack = replace(stack, processes=running_services(stack))
        self._layout = stack.layout
        self._services = services_of(stack.layout)
        self._environment = service_environment(stack.layout, stack.settings)
        self._on_progress = on_progress
        self._started_at = time.monotonic()
        self._deadline = self._started_at + timeout
        # A database of the user may change without this marker.
        self._migration_marker = None if DATABASE_VARIABLE in stack.settings else self._layout.airflow_home / "migrated"

    def run(self) -> None:
        """Start the services that do not run, and wait until all are ready."""
        write_airflow_cfg(self._layout, self.stack.settings)
        migration = self._start_migration()
        self._report_waiting(self._services)
        # These services do not need Airflow's metadata database.
        for service in self._services:
            if service not in AIRFLOW_SERVICES:
                self._start(service)
        if migration:
            self._finish_migration(migration)
        for service in AIRFLOW_SERVICES:
            self._start(service)
        self._wait_until_ready()

    def _start(self, service: Service) -> None:
        if service.name not in self.stack.processes:
            command, log = service.command(self._layout), self._layout.log(service.name)
            process = start_process(command, self._environment, log)
            self.stack = replace(self.stack, processes={**self.stack.processes, service.name: process})
            write_state(self.stack)

    def _start_migration(self) -> subprocess.Popen[bytes] | None:
        marker = self._migration_marker
        is_migrated = marker is not None and marker.exists() and marker.read_text() == AIRFLOW_VERSION
        if is_migrated or any(service.name in self.stack.processes for service in AIRFLOW_SERVICES):
            return None
        return launch(MIGRATE_COMMAND, self._environment, self._layout.log("db-migrate"))

    def _finish_migration(self, migration: subprocess.Popen[bytes]) -> None:
        try:
            code = migration.wait(self._deadline - time.monotonic())
        except subprocess.TimeoutExpired as error:
            raise self._error("db-migrate", "did not end in time") from error
        finally:
            migration.kill()
            migration.wait()
        if code:
            raise self._error("db-migrate", f"ended with {code}")
        if self._migration_marker:
            self._migration_marker.write_text(AIRFLOW_VERSION)
        self._report_ready("metadata database")

    def _wait_until_ready(self) -> None:
        waiting = list(self._services)
        while waiting := [service for service in waiting if not self._is_ready(service)]:
            self._report_waiting(waiting)
            if time.monotonic() > self._deadline:
                raise self._error(waiting[0].name, "was not ready in time")
            time.sleep(0.3)

    def _is_ready(self, service: Service) -> bool:
        process = self.stack.processes[service.name]
        if not process.is_running():
            raise self._error(service.name, "ended unexpectedly")
        if is_ready := service.is_ready(self._layout, process):
            self._report_ready(service.name)
        return is_ready

    def _report_waiting(self, waiting: Collection[Service]) -> None:
        total, names = len(self._services), ", ".join(service.name for service in waiting)
        self._on_progress(Progress("Services that are ready", total - len(waiting), total, f"waiting for {names}"))

    def _report_ready(self, name: str) -> None:
        print(f"  {name:<18} ready after {time.monotonic() - self._started_at:4.1f} s")

    def _error(self, name: str, what: str) -> StackError:
        log = self._layout.log(name)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        return StackError(f"{name} {what}. The end of {log}:\n{tail}")
