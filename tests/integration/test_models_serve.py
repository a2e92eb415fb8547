"""The address of a model artifact is an MLflow Model, for MLflow's own server too."""

import json
import os
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

import airflow_zen
from tests.servers.process import accepts, free_port, running


@pytest.mark.timeout(300)
def test_mlflow_serves_an_artifact(tmp_path, monkeypatch):
    """`mlflow models serve` on the artifact's own address answers with the model's predictions."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    model = LinearRegression().fit(np.arange(20).reshape(10, 2), np.arange(10))
    address = airflow_zen.save(model).uri
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", address, "-h", "127.0.0.1", "-p", str(port)]
    command += ["--env-manager", "local"]
    here = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with running(command, log=tmp_path / "log", answers=lambda: accepts(port), timeout=200, environment=here):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": [[4, 5], [6, 7]]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    assert answer["predictions"] == pytest.approx([2.0, 3.0])
