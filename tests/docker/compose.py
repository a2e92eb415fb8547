"""The compose file, read by Docker's own compose CLI."""

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


def program_path(name: str) -> str:
    """Return the path of a program in the directory of Python."""
    return str(Path(sys.executable).parent / name)


@dataclass(frozen=True)
class Service:
    """One service, with substituted variables, as in its container."""

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    secrets: list[str]
    health: list[str]
    depends_on: dict[str, str]
    definition: dict[str, Any]

    @property
    def is_one_shot(self) -> bool:
        """Whether it does its work and ends."""
        return self.definition["restart"] == "no"


@dataclass(frozen=True)
class Compose:
    """The whole file."""

    services: dict[str, Service]
    secrets: dict[str, str]
    volumes: list[str]


def read_compose_file(variables: Mapping[str, str] | None = None) -> Compose:
    """Read docker/compose.yaml; raise an error with the CLI's message if it refuses the file."""
    command = [program_path("docker-compose"), "--file", str(DOCKER / "compose.yaml"), "config", "--format", "json"]
    told = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(variables or {})}
    done = subprocess.run(command, env=told, capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise AssertionError(done.stderr)
    found = json.loads(done.stdout)
    return Compose(
        {name: _service(name, definition) for name, definition in found["services"].items()},
        {name: secret["file"] for name, secret in found["secrets"].items()},
        list(found["volumes"]),
    )


def _service(name: str, definition: dict[str, Any]) -> Service:
    return Service(
        name,
        definition["image"],
        [_unescape(word) for word in definition["command"] or ()],
        {key: _unescape(value) for key, value in definition.get("environment", {}).items()},
        [secret["source"] for secret in definition.get("secrets", ())],
        [_unescape(word) for word in definition.get("healthcheck", {}).get("test", ())],
        {other: condition["condition"] for other, condition in definition.get("depends_on", {}).items()},
        definition,
    )


def _unescape(text: str) -> str:
    return text.replace("$$", "$")
