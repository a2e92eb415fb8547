"""Bentos that are pushed to BentoCloud and built as images, once for each version."""

from __future__ import annotations

import io
import json
import os
import tarfile

import pytest

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.deployment import BentoML
from airflow_zen.deployment.base import DeploymentRequest
from airflow_zen.deployment.bentoml import publish
from airflow_zen.errors import DeploymentFailed, SettingsError
from tests.deployment.bentocloud import TOKEN, bentocloud
from tests.deployment.servers import save_model
from tests.runtimes.conftest import shared_folder

# It keeps what it is called with, and has the images that it has built.
DOCKER = """#!/bin/sh
echo "$@" >> {log}
case "$1 $2" in
    "version --format") echo '"27.0.3"' ;;
    "image inspect") grep -q "^build.*$3" {log} ;;
esac
"""


@pytest.fixture
def cloud(monkeypatch):
    """BentoCloud, and a connection of its own."""
    with bentocloud() as running:
        set_connection(monkeypatch, running.url, TOKEN)
        yield running


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """A program that answers as Docker's does; the list of its calls."""
    program, log = tmp_path / "bin/docker", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(DOCKER.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def request_of_model(tmp_path):
    """A request to deploy a model."""
    directory, _ = save_model(tmp_path / "model")
    lines = (directory / "requirements.txt").read_text().split()
    pins = tuple(line for line in lines if line != "airflow-provider-zen")
    fields = {"name": "flight_delay", "model": "flight_delay", "version": "7", "digest": "d" * 64, "uri": ""}
    return DeploymentRequest(**fields, directory=directory, requirements=pins)


def set_connection(monkeypatch, url, token):
    monkeypatch.setenv("AIRFLOW_CONN_CLOUD", json.dumps({"conn_type": "http", "host": url, "password": token}))


def files_in(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {os.path.normpath(name) for name in opened.getnames()}


@pytest.mark.server
@pytest.mark.slow
def test_a_bento_is_published_once(cloud, docker, request_of_model, tmp_path, monkeypatch):
    """The Bento, its model and this package are pushed, and an image is built; what is there is not published again."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__ENVIRONMENTS_DIR", str(shared_folder() / "virtualenvs"))
    target = BentoML(bentocloud_conn_id="cloud", containerize="registry.test/flight_delay")
    missing = target._unpublished(request_of_model)
    assert len(missing) == 2
    publish(target, request_of_model, open_stack(Settings.read(), lineage=False), missing)
    version = "d" * 16
    uploaded = cloud.uploads[f"/api/v1/bento_repositories/flight_delay/bentos/{version}"]
    bento = files_in(uploaded)
    assert {"bento.yaml", "src/service.py", "src/airflow_zen/deployment/programs/served_model.py"} <= bento
    # What an image installs comes from a registry, where the package in the Bento is not.
    with tarfile.open(fileobj=io.BytesIO(uploaded)) as archive:
        (required,) = [each for each in archive.getmembers() if each.name.endswith("env/python/requirements.txt")]
        lines = archive.extractfile(required).read().decode()
    assert "mlflow" in lines
    assert "airflow-provider-zen" not in lines
    model = files_in(cloud.uploads[f"/api/v1/model_repositories/flight_delay/models/{version}"])
    assert "mlflow_model/MLmodel" in model
    (built,) = [call for call in docker() if "build " in call]
    assert f"registry.test/flight_delay:{version}" in built
    assert target._unpublished(request_of_model) == []


def test_a_place_that_does_not_answer_is_an_error(cloud, request_of_model, monkeypatch):
    """A wrong token, a connection without one, and a machine without Docker are told before anything is built."""
    set_connection(monkeypatch, cloud.url, "another")
    with pytest.raises(DeploymentFailed, match="401"):
        BentoML(bentocloud_conn_id="cloud")._unpublished(request_of_model)
    set_connection(monkeypatch, cloud.url, "")
    with pytest.raises(SettingsError, match="a token as password"):
        BentoML(bentocloud_conn_id="cloud")._unpublished(request_of_model)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeploymentFailed, match="needs the program docker"):
        BentoML(containerize="a/b")._unpublished(request_of_model)
