"""The runtime `Docker` with an interpreter of this machine, mounted into an image that has only a shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from airflow_zen.runtimes import Docker
from tests.servers.docker_engine import DockerEngine, busybox_archive

IMAGE = "zen/python:1"
PACKAGE = Path(__file__).parents[2] / "airflow_zen"


def import_python_image(engine: DockerEngine) -> None:
    """Make IMAGE, which finds this package where `python_mounts` puts it."""
    variables = ["ENV PYTHONPATH=/opt/zen", "ENV PYTHONDONTWRITEBYTECODE=1"]
    engine.import_image(IMAGE, busybox_archive(), variables)


def python_mounts(interpreter: str) -> tuple[str, ...]:
    """Return the mounts of a virtual environment, and of this package as the last one; none can be written to."""
    folders = ("/usr", "/lib", "/lib64", sys.base_prefix, Path(interpreter).parents[1])
    return (*(f"{folder}:{folder}:ro" for folder in folders), f"{PACKAGE}:/opt/zen/airflow_zen:ro")


def in_docker(engine: DockerEngine, interpreter: str, image: str = IMAGE, **options: Any) -> Docker:
    """Return the runtime, without a network."""
    defaults = {"network": "none", "mounts": python_mounts(interpreter), "python": interpreter}
    return Docker(image, docker_url=engine.url, **{**defaults, **options})
