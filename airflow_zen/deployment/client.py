"""The client of the deployment service of this machine, which it starts if it does not run."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from msgspec.structs import replace

from airflow_zen.deployment.base import Deployment
from airflow_zen.deployment.gateway import token_hash
from airflow_zen.deployment.replica import ReplicaSpec, ServerEnvironment, read_tail
from airflow_zen.deployment.state import LOG_FILE, Operation, ServiceAddress, decode, encode, read_address
from airflow_zen.errors import DeploymentFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_zen.deployment.base import DeploymentRequest, LocalTarget
    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.deployment")

_START_LIMIT = 120.0
_POLL = 0.3
# A stop waits for the requests that are being answered, and a large model is copied.
_TIMEOUT = 300.0
# What belongs to the task that happens to start the service.
_OF_THE_TASK = re.compile(r"AIRFLOW_CTX_.*|AIRFLOW_ZEN_(MLFLOW|STEP|STORAGE).*|_+AIRFLOW.*|MLFLOW_.*")


def deploy_locally(target: LocalTarget, request: DeploymentRequest, stack: Stack) -> Deployment:
    """Make the environment of the server, and let the service of this machine serve the model."""
    spec = ReplicaSpec(
        target=repr(target),
        request=replace(request, token=token_hash(request.token)),
        key=target.key(request),
        environment=make_environment(target, request, stack),
    )
    return ServiceClient.configured(start=True).deploy(spec)


def make_environment(target: LocalTarget, request: DeploymentRequest, stack: Stack) -> ServerEnvironment | None:
    """Return the environment of a server, made if it does not exist; None if Airflow's own environment suffices."""
    lines = target.requirements(request.requirements)
    if all(map(_is_installed, lines)):
        return None
    from airflow_zen.runtimes.environments import Environments
    from airflow_zen.runtimes.virtualenv import Virtualenv

    resolved, environments = Virtualenv(tuple(lines)).resolve(None, stack), Environments.configured()
    log.info("The server of %r runs in the environment %s", request.name, environments.folder / resolved.key)
    with environments.use(resolved, None):
        return ServerEnvironment(environments.folder, environments.limit, resolved)


class ServiceClient:
    """Requests to the deployment service of a directory; `address` is None if it does not run."""

    def __init__(self, directory: Path, address: ServiceAddress | None) -> None:
        self.directory, self._address = directory, address

    @classmethod
    def configured(cls, *, start: bool = False) -> ServiceClient:
        """Return the client of the service in `[zen] deployments_dir`; with `start`, start the service if necessary."""
        from airflow_zen.config.options import default_deployments_dir, find_options

        directory = Path(find_options().text("deployments_dir") or default_deployments_dir()).expanduser().absolute()
        return cls(directory, start_service(directory) if start else find_service(directory))

    def deploy(self, spec: ReplicaSpec) -> Deployment:
        """Serve a model, and wait until it is served. Raises `DeploymentFailed`.

        The service goes on without a task that ends meanwhile.
        """
        text = self._request("PUT", f"deployments/{spec.request.name}", encode(spec))
        operation, phase = decode(text, Operation), ""
        while operation.state == "running":
            if operation.phase != phase:
                phase = operation.phase
                log.info("Deployment %r: %s", spec.request.name, phase)
            time.sleep(_POLL)
            operation = decode(self._request("GET", f"operations/{operation.id}"), Operation)
        if operation.deployment is None:
            raise DeploymentFailed(operation.error)
        return operation.deployment

    def find_current(self, name: str, key: str) -> Deployment | None:
        """Return a deployment if it serves, and has a key."""
        for found in self.list(name):
            if found["key"] == key and found["state"] == "serving":
                return decode(encode(found["deployment"]), Deployment)
        return None

    def list(self, name: str = "") -> Sequence[Any]:
        """Return the states of all deployments, or of one: `deployment`, `state`, `key` and `in_flight`.

        `deployment` is None while the first server of its name starts.
        """
        return decode(self._request("GET", f"deployments/{name}"), list[dict[str, Any]]) if self._address else []

    def describe_state(self, name: str) -> str:
        """Return the state of a deployment's server."""
        if self._address is None:
            return "the deployment service does not run"
        return next((str(found["state"]) for found in self.list(name)), "stopped")

    def logs(self, name: str, lines: int) -> str:
        """Return the end of a server's log. Raises `DeploymentFailed` where there is none."""
        return str(decode(self._request("GET", f"logs/{name}?lines={lines}"), str))

    def stop(self, name: str) -> None:
        """End a deployment after its last request; one that does not exist is no error."""
        if self._address is None:
            (self.directory / f"{name}.json").unlink(missing_ok=True)
        else:
            self._request("DELETE", f"deployments/{name}")

    def flush(self) -> dict[str, int]:
        """Write pending predictions; return the numbers `written` and `dropped` since the start."""
        if self._address is None:
            return {"written": 0, "dropped": 0}
        return decode(self._request("POST", "predictions"), dict[str, int])

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        if self._address is None:
            raise DeploymentFailed(f"No deployment service runs in {self.directory}: deploy a model first.")
        headers = {"Authorization": f"Bearer {self._address.token}"}
        url = f"{self._address.url}/-/{path}"
        try:
            answer = httpx.request(method, url, content=body, headers=headers, timeout=_TIMEOUT, trust_env=False)
        except httpx.HTTPError as error:
            tail = read_tail(self.directory / LOG_FILE, 20)
            raise DeploymentFailed(
                f"The deployment service does not answer: {error!r}. The end of its log:\n{tail}"
            ) from error
        if answer.is_success:
            return answer.content
        raise DeploymentFailed(str(answer.json().get("error", answer.text)))


def find_service(directory: Path) -> ServiceAddress | None:
    """Return the address of the service of a directory; None if it does not run."""
    address = read_address(directory)
    if address is None or not _is_running(address):
        return None
    with suppress(httpx.HTTPError, ValueError):
        found = httpx.get(f"{address.url}/-/health", timeout=10, trust_env=False).json()
        return address if found == {"directory": str(directory)} else None
    return None


def start_service(directory: Path) -> ServiceAddress:
    """Return the address of the service of a directory; start it if it does not run.

    Raises `DeploymentFailed`.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if found := find_service(directory):
            return found
        log.info("Starting the deployment service in %s", directory)
        environment = {name: value for name, value in os.environ.items() if not _OF_THE_TASK.fullmatch(name)}
        with (directory / LOG_FILE).open("ab") as output:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            child = subprocess.Popen(service_command(directory), env=environment, start_new_session=True, **streams)
        deadline = time.monotonic() + _START_LIMIT
        while child.poll() is None and time.monotonic() < deadline:
            if found := find_service(directory):
                return found
            time.sleep(0.1)
    tail = read_tail(directory / LOG_FILE, 30)
    raise DeploymentFailed(f"The deployment service in {directory} does not start. The end of its log:\n{tail}")


def service_command(directory: Path) -> list[str]:
    """Return the command of the service of a directory."""
    return [sys.executable, "-m", "airflow_zen.deployment.service", str(directory)]


def _is_running(address: ServiceAddress) -> bool:
    with suppress(psutil.Error):
        process = psutil.Process(address.pid)
        return abs(process.create_time() - address.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_installed(requirement: str) -> bool:
    """Whether the environment of this process has the distribution of a pin."""
    name, pinned, wanted = requirement.partition("==")
    if not pinned:
        return False
    try:
        return version(name.strip()) == wanted.strip()
    except PackageNotFoundError:
        return False
