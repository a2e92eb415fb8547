"""The images of docker/, built on stand-ins for the images that they begin with, which no registry here has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.docker.compose import DOCKER, REPOSITORY
from tests.servers.docker_engine import DockerEngine

# Debian's Python has the place and the commands of the official image; pip uses this machine's certificates. Bytecode is
# made when a module is first imported, which saves half of the build.
_PYTHON = """\
FROM zen/debian:1
COPY certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_COMPILE=1
RUN rm /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s /usr/bin/python3 /usr/local/bin/python
"""
# The user, the directories and the environment of Airflow's slim image, without Airflow, which docker/Dockerfile pins.
_AIRFLOW = """\
FROM {python}
RUN useradd --create-home --uid 50000 --gid 0 airflow && mkdir /opt/airflow && chown airflow:0 /opt/airflow
USER airflow
RUN python -m venv /home/airflow/.local
ENV PATH=/home/airflow/.local/bin:/usr/local/bin:/usr/bin:/bin AIRFLOW_HOME=/opt/airflow
WORKDIR /opt/airflow
"""
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def missing() -> list[str]:
    """Return the programs that are not on the PATH."""
    return [name for name in ("mmdebstrap", "docker") if shutil.which(name) is None]


@dataclass(frozen=True)
class Images:
    """Builds the images into an engine; `directory` is for files that are needed meanwhile."""

    engine: DockerEngine
    directory: Path

    def make_bases(self) -> None:
        """Make what both Dockerfiles begin with, by the names that they have there."""
        python, airflow = base_images("mlflow.Dockerfile")[-1], base_images("Dockerfile")[-1]
        archive = self.directory / "debian.tar"
        packages = "--include=ca-certificates,python3-pip,python3-venv"
        _run(["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(archive)])
        self.engine.import_image("zen/debian:1", archive.read_bytes())
        context = self.directory / "context"
        context.mkdir()
        shutil.copy(_CERTIFICATES, context / "certificates.crt")
        self._build(python, context, _PYTHON)
        self._build(airflow, context, _AIRFLOW.format(python=python))

    def build(self, name: str, dockerfile: str) -> None:
        """Build an image as docker/README.md says, of a file of docker/ as it is."""
        self._build(name, REPOSITORY, (DOCKER / dockerfile).read_text())

    def build_from(self, name: str, dockerfile: str) -> None:
        """Build an image of a text, whose `{python}` is the stand-in for Python's image, without other files."""
        (context := self.directory / "empty").mkdir(exist_ok=True)
        self._build(name, context, dockerfile.format(python=base_images("mlflow.Dockerfile")[-1]))

    def _build(self, name: str, context: Path, dockerfile: str) -> None:
        # Debian's client builds with BuildKit by itself; a newer one needs a plugin for it.
        client = shutil.which("docker", path="/usr/bin") or "docker"
        environment = os.environ | {"DOCKER_HOST": self.engine.url, "DOCKER_BUILDKIT": "1"}
        command = [client, "build", "--network=host", "--progress=plain", f"--tag={name}", "--file=-", str(context)]
        _run(command, environment, dockerfile)


def base_images(dockerfile: str) -> list[str]:
    """Return the images that the stages of a file of docker/ begin with."""
    return re.findall(r"^FROM (\S+)", (DOCKER / dockerfile).read_text(), re.MULTILINE)


def _run(command: list[str], environment: dict[str, str] | None = None, stdin: str = "") -> None:
    done = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
