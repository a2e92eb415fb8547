"""The state of the deployment service on the disk, and its messages to and from clients."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from airflow_zen.deployment.base import Deployment
from airflow_zen.deployment.replica import ReplicaSpec
from airflow_zen.errors import DeploymentFailed

T = TypeVar("T")

SERVICE_FILE, LOCK_FILE, LOG_FILE = "service.json", "service.lock", "service.log"
NAME = r"(?!(?:log|service)$)[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
"""The names of deployments: parts of an address, and of a path."""


class ServiceAddress(msgspec.Struct, frozen=True):
    """The URL of a service, and the token for changes. started: the process's start by the operating system."""

    url: str
    pid: int
    started: float
    token: str


class Operation(msgspec.Struct):
    """A deployment in progress. state: `running`, `done` or `failed`. phase: the current activity."""

    id: str
    name: str = ""
    state: str = "running"
    phase: str = "waiting"
    error: str = ""
    changed: bool = False
    deployment: Deployment | None = None


class StoredDeployment(msgspec.Struct, frozen=True):
    """A served deployment on the disk: `folder` is that of its server."""

    spec: ReplicaSpec
    deployment: Deployment
    folder: str


def take_model(spec: ReplicaSpec, directory: Path) -> tuple[ReplicaSpec, str]:
    """Copy the model of a request into a new folder of its deployment; return the spec, and the folder's name."""
    request, folder = spec.request, secrets.token_hex(8)
    if not re.fullmatch(NAME, request.name):
        raise DeploymentFailed(
            f"A deployment cannot be named {request.name!r}: use letters, digits, '_', '-' and '.', not 'log' or 'service'."
        )
    target = directory / request.name / folder / "model"
    target.parent.mkdir(parents=True)
    shutil.copytree(request.directory, target)
    return msgspec.structs.replace(spec, request=msgspec.structs.replace(request, directory=target)), folder


def encode(value: Any) -> bytes:
    """Return a record of the service in JSON."""
    return msgspec.json.encode(value, enc_hook=str)


def decode(text: bytes, kind: type[T]) -> T:
    """Return the record of a JSON text."""
    return msgspec.json.decode(text, type=kind, dec_hook=lambda held, value: held(value))


def write_private(path: Path, text: bytes) -> None:
    """Replace a file by a rename; only its owner can read it."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(text)
    new.replace(path)


def read_address(directory: Path) -> ServiceAddress | None:
    """Return the address of the service of a directory; None if none was ever started."""
    try:
        return decode((directory / SERVICE_FILE).read_bytes(), ServiceAddress)
    except FileNotFoundError:
        return None


def has_deployments(directory: Path) -> bool:
    """Whether a service has deployments to serve in this directory."""
    return any(re.fullmatch(NAME, file.stem) for file in directory.glob("*.json"))
