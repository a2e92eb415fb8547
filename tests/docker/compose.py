"""The compose file as Docker's own compose CLI reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"


def program(name: str) -> str:
    """Give the path of a program that pip puts beside Python."""
    return str(Path(sys.executable).parent / name)


@dataclass(frozen=True)
class Service:
    """One service, with its variables filled in and its `$$` as a container sees them."""

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    secrets: list[str]
    health: list[str]
    depends_on: dict[str, str]
    asked: dict[str, Any]

    @property
    def once(self) -> bool:
        """Whether it does its work and ends."""
        return self.asked["restart"] == "no"


@dataclass(frozen=True)
class Compose:
    """The whole file."""

    services: dict[str, Service]
    secrets: dict[str, str]
    volumes: list[str]


def read(variables: Mapping[str, str] | None = None) -> Compose:
    """Read docker/compose.yaml; raises with the CLI's own words where it refuses the file."""
    command = [program("docker-compose"), "--file", str(DOCKER / "compose.yaml"), "config", "--format", "json"]
    told = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(variables or {})}
    done = subprocess.run(command, env=told, capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise AssertionError(done.stderr)
    found = json.loads(done.stdout)
    return Compose(
        {name: _service(name, asked) for name, asked in found["services"].items()},
        {name: secret["file"] for name, secret in found["secrets"].items()},
        list(found["volumes"]),
    )


def _service(name: str, asked: dict[str, Any]) -> Service:
    return Service(
        name,
        asked["image"],
        [_as_seen(word) for word in asked["command"] or ()],
        {key: _as_seen(value) for key, value in asked.get("environment", {}).items()},
        [secret["source"] for secret in asked.get("secrets", ())],
        [_as_seen(word) for word in asked.get("healthcheck", {}).get("test", ())],
        {other: condition["condition"] for other, condition in asked.get("depends_on", {}).items()},
        asked,
    )


def _as_seen(text: str) -> str:
    return text.replace("$$", "$")
