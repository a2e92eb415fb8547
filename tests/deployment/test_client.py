"""Promises of the client of the deployment service: where a server runs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_zen import MLflowServing
from airflow_zen.config.settings import open_stack
from airflow_zen.deployment.base import DeploymentRequest
from airflow_zen.deployment.client import make_environment
from airflow_zen.errors import RuntimeUnavailable


def request(*requirements: str) -> DeploymentRequest:
    """Return a request for a model with these pins."""
    about = {"name": "m", "model": "m", "version": "1", "digest": "d", "uri": "", "directory": Path()}
    return DeploymentRequest(requirements=requirements, **about)


def test_a_server_has_its_own_environment_if_versions_differ(tmp_path, monkeypatch):
    """A model of the installed versions is served in Airflow's environment; one that differs or is open needs its own."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path))
    stack, target = open_stack(lineage=False), MLflowServing()
    here = [f"{name}=={version(name)}" for name in ("mlflow", "scikit-learn")]
    assert make_environment(target, request(*here), stack) is None
    # That they are resolved is seen by releases that do not exist.
    for other in ("msgspec==0.0.0.1", "msgspec<0.0.0.1"):
        with pytest.raises(RuntimeUnavailable, match="msgspec"):
            make_environment(target, request(*here, other), stack)
    with pytest.raises(RuntimeUnavailable, match="msgspec"):
        make_environment(MLflowServing(extra_requirements=("msgspec<0.0.0.1",)), request(*here), stack)
