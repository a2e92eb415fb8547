"""A real MLflow tracking server on a free loopback port."""

from __future__ import annotations

import os
import shutil
import sqlite3
import ssl
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from multiprocessing import get_context
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Self

from tests.servers.process import ServerProcess, free_port, made_once, memory_directory, running, stopped_at_end

# Job execution starts a dozen more processes; the timeout covers an import on a busy machine.
_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
_START_TIMEOUT = 240.0
_SQLITE = "sqlite:///"


class _ForkedProcess:
    """`mlflow …` in a fork of a process that has imported MLflow, which takes most of a server's start."""

    def __init__(self, words: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["uvicorn", "mlflow.server.fastapi_app", "mlflow.cli"])
        self._process = context.Process(target=_run_mlflow, args=(words, log, environment), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired("mlflow", timeout or 0)


def _run_mlflow(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Run MLflow's command line in this process, and the web server too, which it would start in one more."""
    import mlflow.server
    import uvicorn
    from mlflow.cli import cli

    def serve(command: Sequence[str], *, extra_env: Mapping[str, str], **_: object) -> None:
        os.environ.update(extra_env)
        uvicorn.main(command[command.index("uvicorn") + 1 :])

    os.setsid()
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    mlflow.server._exec_cmd = serve  # type: ignore[assignment, attr-defined]
    cli(words, prog_name="mlflow")


class MlflowServer:
    """One `mlflow server` process; `start` brings a stopped one back at the same address with the same database."""

    def __init__(
        self, directory: Path, port: int, backend: str, options: Sequence[str] = (), tls: tuple[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.port = port
        self.uri = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.pid = 0
        self._backend = backend
        self._options = (
            *options,
            *(("--uvicorn-opts", f"--ssl-certfile {tls[0]} --ssl-keyfile {tls[1]}") if tls else ()),
        )
        self._running: AbstractContextManager[ServerProcess] | None = None

    def start(self) -> Self:
        """Start the process and wait until it is healthy."""
        words = [
            *("server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", self._backend),
            *("--artifacts-destination", str(self.directory / "mlartifacts")),
            *self._options,
        ]
        # This option takes effect where MLflow is imported: a fork has imported it already.
        start = self._run_command if "--allowed-hosts" in self._options else self._run_forked
        self._running = start(words, self.directory / "mlflow.out")
        with self._migrated_database():
            self.pid = self._running.__enter__().pid
        return self

    @contextmanager
    def _migrated_database(self) -> Iterator[None]:
        """Copy the database that the first server of a test run has migrated in its start; that first one keeps it."""
        if not self._backend.startswith(_SQLITE):
            yield
            return
        file = Path(self._backend.removeprefix(_SQLITE))
        with made_once("mlflow.db") as empty:
            if is_first := not empty.exists():
                yield
                with closing(sqlite3.connect(file)) as database:
                    database.execute("VACUUM INTO ?", [str(empty)])
            elif not file.exists():
                shutil.copy(empty, file)
        if not is_first:
            yield

    def _run_command(self, words: Sequence[str], log: Path) -> AbstractContextManager[ServerProcess]:
        command = [sys.executable, "-m", "mlflow", *words]
        return running(command, log=log, answers=self.healthy, timeout=_START_TIMEOUT, environment=_ENVIRONMENT)

    @contextmanager
    def _run_forked(self, words: Sequence[str], log: Path) -> Iterator[ServerProcess]:
        process = _ForkedProcess(words, log, {**os.environ, **_ENVIRONMENT})
        with stopped_at_end(process, log, self.healthy, _START_TIMEOUT):
            yield process

    def stop(self) -> None:
        """End the process, by its own id."""
        if self._running:
            self._running.__exit__(None, None, None)
        self._running = None

    def healthy(self) -> bool:
        """Ask the server whether it serves."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        if self.uri.startswith("https:"):
            anyone = ssl._create_unverified_context()
            connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=anyone)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def tracked_at(uri: str) -> Iterator[None]:
    """Let MLflow's client in this process speak to one server, and then to whom it spoke before."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        # It sets the variable too, and leaves it there.
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ.update({"MLFLOW_TRACKING_URI": before} if before is not None else {})


def mlflow_server(
    directory: Path,
    port: int | None = None,
    backend: str | None = None,
    options: Sequence[str] = (),
    tls: tuple[str, str] | None = None,
) -> MlflowServer:
    """Run a server from now until its `stop`, or the end of a `with` block.

    backend: a database URL; a new SQLite file by default. options: more of the server's command line.
    tls: paths of a certificate and its key.
    """
    return _server(directory, port, backend, options, tls).start()


def mlflow_away(directory: Path) -> MlflowServer:
    """Return the address of a server that is away, until its `start` brings it."""
    return _server(directory)


def _server(
    directory: Path,
    port: int | None = None,
    backend: str | None = None,
    options: Sequence[str] = (),
    tls: tuple[str, str] | None = None,
) -> MlflowServer:
    directory.mkdir(parents=True, exist_ok=True)
    return MlflowServer(directory, port or free_port(), backend or _new_database(), options, tls)


def _new_database() -> str:
    """Return the URL of a new SQLite file."""
    return f"{_SQLITE}{memory_directory('mlflow-') / 'mlflow.db'}"
