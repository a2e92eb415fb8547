"""The image of a Bento, built by a real engine on a stand-in for its base image. `ZEN_BENTO_IMAGE=1 make test-images` runs this."""

import os
import shutil
import time

import pytest

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.deployment import BentoML
from airflow_zen.deployment.base import DeploymentRequest
from airflow_zen.deployment.bentoml import publish
from tests.deployment.servers import flights, post, save_model, status_of
from tests.docker.images import Images, missing
from tests.runtimes.conftest import shared_folder
from tests.servers.process import free_port

pytestmark = [
    pytest.mark.images,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        not os.environ.get("ZEN_BENTO_IMAGE"), reason="set ZEN_BENTO_IMAGE=1: the image installs from PyPI"
    ),
]

# What a Bento of Python 3.11 begins with. uv looks for certificates where this variable says.
BASE = "python:3.11-slim"
STAND_IN = "FROM {python}\nENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n"
# Containers of this engine have the machine's network or none, and BentoML's builds ask for neither.
CLIENT = """#!/bin/sh
if [ "$1" = build ]; then shift; set -- build --network=host "$@"; fi
exec {docker} "$@"
"""


@pytest.fixture
def engine(docker_engine, tmp_path, monkeypatch):
    """An engine that has the base image, which the program `docker` uses."""
    if programs := missing():
        pytest.fail(f"no {', '.join(programs)} on the PATH: scripts/test-parts.sh installs them on Debian")
    (tmp_path / "images").mkdir()
    images = Images(docker_engine, tmp_path / "images")
    images.make_bases()
    images.build_from(BASE, STAND_IN)
    client = tmp_path / "bin/docker"
    client.parent.mkdir()
    client.write_text(CLIENT.format(docker=shutil.which("docker", path="/usr/bin") or shutil.which("docker")))
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    return docker_engine


def test_image_of_a_bento_serves_the_model(engine, tmp_path, monkeypatch):
    """`containerize` builds an image with the version as its tag, once; its container predicts as the model here."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__ENVIRONMENTS_DIR", str(shared_folder() / "virtualenvs"))
    directory, expected = save_model(tmp_path / "model")
    pins = tuple(line for line in (directory / "requirements.txt").read_text().split() if "airflow" not in line)
    fields = {"name": "flight_delay", "model": "flight_delay", "version": "7", "digest": "d" * 64, "uri": ""}
    request = DeploymentRequest(**fields, directory=directory, requirements=pins)
    target = BentoML(containerize="zen.test/flight_delay")
    publish(target, request, open_stack(Settings.read(), lineage=False), target._unpublished(request))
    assert target._unpublished(request) == []

    port = free_port()
    host = engine.client.create_host_config(network_mode="host")
    command = ["serve", "--host", "127.0.0.1", "--port", str(port)]
    container = engine.client.create_container(f"zen.test/flight_delay:{'d' * 16}", command, host_config=host)["Id"]
    engine.client.start(container)
    while status_of(f"http://127.0.0.1:{port}/readyz") != 200:
        assert engine.client.inspect_container(container)["State"]["Running"], engine.client.logs(container).decode()
        time.sleep(0.5)
    rows = flights().head(100)
    status, answer = post(f"http://127.0.0.1:{port}/predict", {"rows": rows.to_dict("records")})
    assert (status, answer) == (200, expected[:100])
