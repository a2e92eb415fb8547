"""The deployment service: `python -m airflow_zen.deployment.service DIRECTORY` owns the servers of this machine.

One process holds all servers of a directory, answers clients on one port, and ends with everything that it has started.
What it should serve is in the directory, and is served again when it starts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import psutil
from aiohttp import web

from airflow_zen.deployment.base import Deployment, log_token
from airflow_zen.deployment.control import Control
from airflow_zen.deployment.gateway import Gateway
from airflow_zen.deployment.prediction_log import PredictionLog
from airflow_zen.deployment.replica import Replica, ReplicaSpec
from airflow_zen.deployment.state import (
    LOCK_FILE,
    NAME,
    SERVICE_FILE,
    Operation,
    ServiceAddress,
    StoredDeployment,
    decode,
    encode,
    read_address,
    write_private,
)
from airflow_zen.deployment.step import read_token
from airflow_zen.errors import DeploymentFailed, ZenError
from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.deployment")

_MAX_OPERATIONS = 200
_MAX_BACKOFF = 60
_SECONDS_TO_END = 3.0
_LOOPBACK = ("127.0.0.1", "localhost")


class DeploymentService:
    """The deployments by name, and the changes in progress; their state is stored in `directory`."""

    def __init__(self, directory: Path, url: str, gateway: Gateway) -> None:
        self.directory, self.url, self.gateway = directory, url, gateway
        self.stored: dict[str, StoredDeployment] = {}
        self.operations: dict[str, Operation] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._replicas: set[Replica] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starts: dict[str, set[asyncio.Task[None]]] = {}

    async def resume(self) -> None:
        """Serve again what was served, and delete what a killed service left.

        A deployment that this release cannot serve is left on the disk as it is.
        """
        kept = set()
        for file in sorted(self.directory.glob("*.json")):
            if re.fullmatch(NAME, name := file.stem):
                try:
                    stored = decode(file.read_bytes(), StoredDeployment)
                    replica = self._new_replica(stored.spec, self.directory / name / stored.folder)
                except (ZenError, msgspec.MsgspecError) as error:
                    log.warning("Deployment %r cannot be served: %s", name, error)
                    kept |= {*(self.directory / name).glob("*")}
                    continue
                kept.add(replica.folder)
                self.stored[name], self.gateway.active[name] = stored, replica
                self._spawn(self._supervise(name, replica, restart=True))
        for folder in self.directory.glob("*/*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def deploy(self, spec: ReplicaSpec, folder: str) -> Operation:
        """Begin to serve a spec whose model is in a new folder; return the operation."""
        while len(self.operations) >= _MAX_OPERATIONS:
            del self.operations[next(iter(self.operations))]
        operation = self.operations[folder] = Operation(folder, spec.request.name)
        starts, task = self._starts.setdefault(spec.request.name, set()), self._spawn(self._run(operation, spec))
        starts.add(task)
        task.add_done_callback(starts.discard)
        return operation

    async def stop(self, name: str) -> bool:
        """End a deployment after its last request, and what starts in its place; return whether there was one."""
        starts = [*self._starts.get(name, ())]
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        async with self._lock(name):
            (self.directory / f"{name}.json").unlink(missing_ok=True)
            self.stored.pop(name, None)
            replica = self.gateway.active.pop(name, None)
            if replica is not None:
                await self._retire(replica)
            shutil.rmtree(self.directory / name, ignore_errors=True)
            return bool(replica or starts)

    async def close(self) -> None:
        """End all servers; their deployments remain stored."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(replica.stop(keep_folder=True) for replica in self._replicas))

    def states(self, name: str) -> list[dict[str, Any]]:
        """Return the state of a deployment, or of all where the name is empty; `deployment` is None while the first starts."""
        running = {each.name: each for each in self.operations.values() if each.state == "running"}
        found = [self._state(each) for each in sorted(self.stored) if name in ("", each)]
        first = [each for each in running.values() if each.name not in self.stored and name in ("", each.name)]
        return found + [{"deployment": None, "state": each.phase, "key": "", "in_flight": 0} for each in first]

    def _state(self, name: str) -> dict[str, Any]:
        stored, replica = self.stored[name], self.gateway.active[name]
        key, requests = stored.spec.key, replica.in_flight
        return {"deployment": stored.deployment, "state": replica.state, "key": key, "in_flight": requests}

    async def _run(self, operation: Operation, spec: ReplicaSpec) -> None:
        name = spec.request.name
        folder = self.directory / name / operation.id
        try:
            async with self._lock(name):
                operation.deployment, operation.changed = await self._replace(operation, spec, folder)
                operation.state = "done"
        except (ZenError, OSError) as error:
            operation.error, operation.state = str(error), "failed"
            log.warning("Deployment %r failed: %s", name, error)
        except asyncio.CancelledError:
            operation.error, operation.state = f"Deployment {name!r} was stopped while it started.", "failed"
            raise
        finally:
            if not operation.changed:
                shutil.rmtree(folder, ignore_errors=True)

    async def _replace(self, operation: Operation, spec: ReplicaSpec, folder: Path) -> tuple[Deployment, bool]:
        """Start and check a server, and activate it in place of the previous one, which ends after its last request."""
        name, before = spec.request.name, self.gateway.active.get(spec.request.name)
        if before and before.spec.key == spec.key and before.is_alive and before.state == "serving":
            return self.stored[name].deployment, False
        replica = self._new_replica(spec, folder)
        following = asyncio.create_task(self._follow(operation, replica))
        try:
            await replica.start()
            await replica.smoke_test()
            deployment = self._describe(spec, replica)
            self._store(name, StoredDeployment(_without_rows(spec), deployment, folder.name))
        except BaseException:
            await self._discard(replica)
            raise
        finally:
            following.cancel()
        replica.state = "serving"
        self.gateway.active[name] = replica
        self._spawn(self._supervise(name, replica))
        if before:
            self._spawn(self._retire(before))
        return deployment, True

    async def _supervise(self, name: str, replica: Replica, *, restart: bool = False) -> None:
        """Restart an active server that ends, after a delay that doubles each time."""
        waits = 1
        while self.gateway.active.get(name) is replica:
            if restart:
                try:
                    await replica.start()
                    replica.state, waits = "serving", 1
                except DeploymentFailed as error:
                    log.warning("%s", error)
                    await replica.stop(keep_folder=True)
                    replica.state = "failed to start, and is tried again"
                    await asyncio.sleep(waits)
                    waits = min(2 * waits, _MAX_BACKOFF)
                    continue
            code = await replica.ended()
            if self.gateway.active.get(name) is replica and replica.state != "stopped":
                log.warning("The server of deployment %r ended with %s, and is started again.", name, code)
                replica.state, restart = "restarting", True
                await asyncio.sleep(waits)

    async def _follow(self, operation: Operation, replica: Replica) -> None:
        """Show the progress of the server in the operation."""
        while True:
            operation.phase = replica.state
            await asyncio.sleep(0.2)

    async def _retire(self, replica: Replica) -> None:
        await replica.drain()
        await self._discard(replica)

    async def _discard(self, replica: Replica) -> None:
        await replica.stop()
        self._replicas.discard(replica)

    def _describe(self, spec: ReplicaSpec, replica: Replica) -> Deployment:
        request, endpoint = spec.request, f"{self.url}/{spec.request.name}"
        return Deployment(
            name=request.name,
            endpoint=endpoint,
            predict_url=f"{endpoint}{replica.predict_path}",
            model=request.model,
            version=request.version,
            digest=request.digest,
            target=spec.target,
            owner=request.owner,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _store(self, name: str, stored: StoredDeployment) -> None:
        write_private(self.directory / f"{name}.json", encode(stored))
        self.stored[name] = stored

    def _new_replica(self, spec: ReplicaSpec, folder: Path) -> Replica:
        replica = Replica(spec, folder)
        self._replicas.add(replica)
        return replica

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _without_rows(spec: ReplicaSpec) -> ReplicaSpec:
    return msgspec.structs.replace(spec, request=msgspec.structs.replace(spec.request, rows=None, expected=None))


def _open_transport(stack: str) -> Transport:
    """Open the artifact root of a stack."""
    from airflow_zen.config.settings import Settings, storage_options
    from airflow_zen.transports import open_transport

    settings = Settings.read(stack or None)
    return open_transport(settings.artifact_root, storage_options(settings), sync_to_disk=settings.sync_to_disk)


@contextlib.asynccontextmanager
async def running_service(
    directory: Path, host: str, port: int, log_tokens: Sequence[str] | None
) -> AsyncIterator[ServiceAddress]:
    """Run a service during the block; `log_tokens` as for `Gateway`."""
    predictions, listener = PredictionLog(_open_transport), _listener(host, port)
    gateway, token = Gateway(predictions, log_tokens), secrets.token_urlsafe(32)
    service = DeploymentService(directory, f"http://127.0.0.1:{listener.getsockname()[1]}", gateway)
    handler = web.ServerRunner(web.Server(Control(service, token).handle, access_log=None))
    await service.resume()
    await handler.setup()
    await web.SockSite(handler, listener, shutdown_timeout=_SECONDS_TO_END).start()
    try:
        yield ServiceAddress(service.url, os.getpid(), psutil.Process().create_time(), token)
    finally:
        await handler.cleanup()
        await service.close()
        await gateway.close()
        await asyncio.to_thread(predictions.close)


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket on a port, or on any free port if it is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.bind((host, 0))
    return listener


async def _serve(directory: Path, host: str, port: int, log_tokens: Sequence[str] | None) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    before = read_address(directory)
    port = port or (int(before.url.rpartition(":")[2]) if before else 0)
    async with running_service(directory, host, port, log_tokens) as address:
        write_private(directory / SERVICE_FILE, encode(address))
        log.info("Deployments in %s are served at %s", directory, address.url)
        # Whoever deletes the directory can no longer find the service.
        while not ended.is_set() and (directory / SERVICE_FILE).exists():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _SECONDS_TO_END)


def _lock_directory(directory: Path) -> IO[str]:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = (directory / LOCK_FILE).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"Another deployment service serves {directory}.")
    return lock


def find_log_tokens(host: str, conn_ids: Sequence[str]) -> list[str] | None:
    """Return the tokens of which `/log/<model>` needs one, for connections; None on the loopback interface without any."""
    tokens = [log_token(read_token(conn_id)) for conn_id in conn_ids]
    return tokens if tokens or host not in _LOOPBACK else None


def main() -> None:
    """Serve the deployments of a directory until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m airflow_zen.deployment.service", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--host", default="127.0.0.1", help="the interface to listen on (default: the loopback one)")
    parser.add_argument("--port", type=int, default=0, help="default: that of the service before, or any that is free")
    parser.add_argument(
        "--token-conn-id",
        action="append",
        default=[],
        help="a connection that deployments name as token_conn_id: their loggers may then send to /log/<model>, which needs "
        "a token with this option, and on another interface than the loopback one (repeatable)",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # It reads connections as commands of Airflow do.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    log_tokens = find_log_tokens(arguments.host, arguments.token_conn_id)
    directory = arguments.directory.resolve()
    with _lock_directory(directory):
        asyncio.run(_serve(directory, arguments.host, arguments.port, log_tokens))


if __name__ == "__main__":
    main()
