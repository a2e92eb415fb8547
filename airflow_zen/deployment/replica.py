"""One server of one model version: its environment, its process, and its lifecycle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

from airflow_zen.deployment import parse_target, supervisor
from airflow_zen.deployment.base import DeploymentRequest, LocalTarget, Server, ServerPlace, post_json, smoke_test
from airflow_zen.errors import DeploymentFailed, ZenError
from airflow_zen.lineage.mlflow.offline import write_package
from airflow_zen.runtimes.base import TELEMETRY_OFF
from airflow_zen.runtimes.child_process import NOT_INHERITED
from airflow_zen.runtimes.environments import Environments, find_uv
from airflow_zen.runtimes.virtualenv import Resolved

STALL_LIMIT = 180.0
"""The seconds without a line in the log and without use of a CPU after which a start has failed."""

DRAIN_LIMIT = 60.0
"""The seconds that a replaced server has for the requests that it is answering."""

_SECONDS_TO_STOP = 8.0
_TAIL = 4000
_LOG_FILE = "server.log"


class ServerEnvironment(msgspec.Struct, frozen=True):
    """The virtual environment of a server: the folder of all environments, their limit in bytes, and its contents."""

    folder: Path
    limit: int
    resolved: Resolved


class ReplicaSpec(msgspec.Struct, frozen=True):
    """The start options of a server: the text of its target, the request, and its environment.

    key: as `Target.key`. environment: None for the interpreter of the service.
    """

    target: str
    request: DeploymentRequest
    key: str
    environment: ServerEnvironment | None = None

    def local_target(self) -> LocalTarget:
        """Return the target; raise `DeploymentFailed` for one that is not local."""
        target = parse_target(self.target)
        if not isinstance(target, LocalTarget):
            raise DeploymentFailed(f"{self.target} has no server on this machine.")
        return target


class Replica:
    """A server in a folder of its own, which is deleted with it. `in_flight`: the requests that it is answering."""

    def __init__(self, spec: ReplicaSpec, folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.target = spec.local_target()
        self.predict_path = self.target.predict_path(spec.request.name)
        self.url, self.state, self.in_flight = "", "starting", 0
        self._process: asyncio.subprocess.Process | None = None
        self._environment = contextlib.ExitStack()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def model(self) -> Path:
        """The MLflow Model directory."""
        return self.folder / "model"

    @property
    def log(self) -> Path:
        """The output of its builds and its server."""
        return self.folder / _LOG_FILE

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the server, and wait until it can predict. Raises `DeploymentFailed` with the end of its log."""
        self._environment.close()
        try:
            python = await asyncio.to_thread(self._enter_environment)
            place = self._place(python)
            self.url, server = place.url, self.target.server(place)
            self._write_files(server)
            for build in server.builds:
                self.state = f"building: {Path(build[0]).name} {' '.join(build[1:3])}"
                await self._launch(build, python, server)
                await self._watch(None)
                if self._process and self._process.returncode:
                    raise DeploymentFailed(f"{' '.join(build)} ended with {self._process.returncode}.")
            self.state = "starting"
            await self._launch(server.command, python, server)
            await self._watch(f"{place.url}{server.ready}")
        except (ZenError, OSError) as error:
            raise DeploymentFailed(
                f"The server of {self.spec.request.name!r} did not start: {error}{self.tail()}"
            ) from error

    async def smoke_test(self) -> None:
        """Compare its predictions with those of the task. Raises `DeploymentFailed`."""
        self.state = "smoke test"
        request = self.spec.request
        send = lambda path, body: post_json(f"{self.url}{path}", body)  # noqa: E731
        try:
            await asyncio.to_thread(smoke_test, self.target, request, send)
        except DeploymentFailed as error:
            raise DeploymentFailed(f"{error}{self.tail()}") from error

    async def ended(self) -> int:
        """Wait for the end of the process, and return its exit code."""
        return await self._process.wait() if self._process else 0

    async def drain(self) -> None:
        """Wait until the last request is answered, for `DRAIN_LIMIT` seconds at most."""
        self.state = "draining"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), DRAIN_LIMIT)

    async def stop(self, *, keep_folder: bool = False) -> None:
        """End the process and its children, release the environment, and delete the folder."""
        self.state = "stopped"
        if (process := self._process) is not None and process.returncode is None:
            if process.stdin:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _SECONDS_TO_STOP)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._environment.close()
        if not keep_folder:
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Count a request during the block."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    def tail(self, lines: int = 40) -> str:
        """Return the end of the log after a heading; empty without any."""
        text = read_tail(self.log, lines)
        return f"\nThe end of its log:\n{text}" if text else ""

    def _enter_environment(self) -> str:
        if (environment := self.spec.environment) is None:
            return sys.executable
        self.state = "installing the environment"
        environments = Environments(environment.folder, environment.limit)
        return self._environment.enter_context(environments.use(environment.resolved, None))

    def _place(self, python: str) -> ServerPlace:
        request, server = self.spec.request, self.folder / "server"
        shutil.rmtree(server, ignore_errors=True)
        server.mkdir(parents=True)
        ports = free_ports(self.target.port_count)
        return ServerPlace(request.name, request.version, request.digest, python, server, self.model, ports)

    def _write_files(self, server: Server) -> None:
        for name, text in server.files.items():
            path = self.folder / "server" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    async def _launch(self, command: Sequence[str], python: str, server: Server) -> None:
        program = [sys.executable, "-I", "-S", str(supervisor.__file__), *command]
        streams: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "cwd": self.folder / "server"}
        with self.log.open("ab") as output:
            streams |= {"stdout": output, "stderr": asyncio.subprocess.STDOUT, "start_new_session": True}
            self._process = await asyncio.create_subprocess_exec(
                *program, env=self._variables(python, server), **streams
            )

    def _variables(self, python: str, server: Server) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not NOT_INHERITED.fullmatch(name)}
        package = self.folder / "package"
        if not package.exists():
            write_package(package)
        tools = [str(Path(python).parent), *([str(Path(uv).parent)] if (uv := find_uv()) else [])]
        return {
            **own,
            **TELEMETRY_OFF,
            "PYTHONPATH": os.pathsep.join([str(package), *self.spec.request.paths]),
            "PYTHONUNBUFFERED": "1",
            "PATH": os.pathsep.join([*tools, own.get("PATH", os.defpath)]),
            **server.environment,
        }

    async def _watch(self, ready: str | None) -> None:
        """Wait until `ready` is answered with 200; without `ready`, wait until the process ends.

        Raises `DeploymentFailed` if the server ends, or neither logs nor computes.
        """
        progress, since = self._progress(), time.monotonic()
        while self.is_alive:
            if ready is not None and await asyncio.to_thread(_is_ready, ready):
                return
            await asyncio.sleep(0.2)
            if (now := self._progress()) != progress:
                progress, since = now, time.monotonic()
            elif time.monotonic() - since > STALL_LIMIT:
                raise DeploymentFailed(f"it made no progress for {STALL_LIMIT:.0f} seconds.")
        if ready:
            code = self._process.returncode if self._process else None
            raise DeploymentFailed(f"its process ended with exit code {code}.")

    def _progress(self) -> tuple[int, int]:
        """Return the size of the log in bytes, and the CPU time of its processes in tenths of a second."""
        seconds = 0.0
        with contextlib.suppress(psutil.Error, AttributeError):
            parent = psutil.Process(self._process.pid)  # type: ignore[union-attr]
            for process in parent.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    seconds += sum(process.cpu_times()[:2])
        return self.log.stat().st_size if self.log.exists() else 0, int(seconds * 10)


def free_ports(count: int) -> tuple[int, ...]:
    """Return loopback ports on which no process listens, all different."""
    with contextlib.ExitStack() as sockets:
        listeners = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return tuple(listener.getsockname()[1] for listener in listeners)


def read_tail(log: Path, lines: int) -> str:
    """Return the last lines of a file; empty where there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL * max(1, lines // 40)))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
