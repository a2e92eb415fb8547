"""A model that a step made, with own parts, is an MLflow Model that MLflow's own server serves: by address, and by name."""

import json
import os
import sys
import urllib.request
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from airflow.sdk import DAG
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from airflow_zen import ml_step
from tests.harness import run_dag
from tests.materializers.own_estimators import Slotted, halve
from tests.servers.mlflow_server import mlflow_server
from tests.servers.process import accepts, free_port, running

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]


@ml_step(model="served")
def fit(rows: int) -> Pipeline:
    model = make_pipeline(Slotted(2), FunctionTransformer(halve), LinearRegression())
    return model.fit(np.arange(2 * rows).reshape(rows, 2), np.arange(rows))


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Make a registered model by a step; give its artifact's address, and the server that knows its name."""
    directory = tmp_path_factory.mktemp("served")
    with mlflow_server(directory / "mlflow") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(directory / "root"))
        patch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
        with DAG("serving", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
            fit(10)
        run = run_dag(dag)
        MlflowClient(server.uri).set_registered_model_alias("served", "champion", "1")
        yield {"artifact": run.xcom("fit")["uri"], "name": "models:/served@champion"}, server.uri


@pytest.mark.parametrize("kind", ["artifact", "name"])
def test_mlflow_serves_a_model(addresses, kind, tmp_path):
    """`mlflow models serve`, of an artifact's own address or of `models:/name@alias`, answers with predictions."""
    models, tracking = addresses
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", models[kind], "-h", "127.0.0.1"]
    command += ["-p", str(port), "--env-manager", "local"]
    here = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking if kind == "name" else "",
    }
    with running(command, log=tmp_path / "log", answers=lambda: accepts(port), timeout=240, environment=here):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": [[4, 5], [6, 7]]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=240) as response:
            answer = json.load(response)
    assert answer["predictions"] == pytest.approx([2.0, 3.0])
