"""What the deployment service keeps on the disk, and what it and its clients send each other."""

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
    """Where a service answers, and the token of those who may change it. started: as the operating system tells it."""

    url: str
    pid: int
    started: float
    token: str


class Operation(msgspec.Struct):
    """A deployment that is being made. state: `running`, `done` or `failed`. phase: what it does now."""

    id: str
    state: str = "running"
    phase: str = "waiting"
    error: str = ""
    changed: bool = False
    deployment: Deployment | None = None


class StoredDeployment(msgspec.Struct, frozen=True):
    """What is served under a name, as it is on the disk: `folder` is the one of its server."""

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
    """Replace a file in one move; its owner alone can read it."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(text)
    new.replace(path)


def read_address(directory: Path) -> ServiceAddress | None:
    """Return where the service of a directory answers; None where none was ever started."""
    try:
        return decode((directory / SERVICE_FILE).read_bytes(), ServiceAddress)
    except FileNotFoundError:
        return None


def has_deployments(directory: Path) -> bool:
    """Whether a service is to serve something in this directory."""
    return any(re.fullmatch(NAME, file.stem) for file in directory.glob("*.json"))
