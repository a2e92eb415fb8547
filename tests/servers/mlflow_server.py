"""A real MLflow tracking server on a free loopback port."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from subprocess import Popen
from typing import Self

from tests.servers.process import free_port, running

# Job execution starts a dozen more processes; the timeout covers an import on a busy machine.
_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
_START_TIMEOUT = 240.0


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
        self._running: AbstractContextManager[Popen[bytes]] | None = None

    def start(self) -> Self:
        """Start the process and wait until it is healthy."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", self._backend),
            *("--artifacts-destination", str(self.directory / "mlartifacts")),
            *self._options,
        ]
        self._running = running(
            command,
            log=self.directory / "mlflow.out",
            answers=self.healthy,
            timeout=_START_TIMEOUT,
            environment=_ENVIRONMENT,
        )
        self.pid = self._running.__enter__().pid
        return self

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

    backend: a database URL; a new SQLite file in `directory` by default. options: more of the server's command line.
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
    return MlflowServer(directory, port or free_port(), backend or f"sqlite:///{directory}/mlflow.db", options, tls)
