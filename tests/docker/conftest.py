"""Fixtures: secrets and the compose file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docker.compose import DOCKER, Compose, read_compose_file


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of new secrets, made by docker/secrets.sh."""
    directory = tmp_path_factory.mktemp("docker") / "secrets"
    subprocess.run([DOCKER / "secrets.sh", directory], check=True, capture_output=True)
    return directory


@pytest.fixture(scope="session")
def compose(secrets: Path) -> Compose:
    """The compose file with those secrets, and otherwise defaults."""
    return read_compose_file({"SECRETS": str(secrets)})
