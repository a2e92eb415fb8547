"""`dags_examples/train_promote_deploy.py` in Airflow's metadata database, with a real MLflow, served by MLflow."""

from __future__ import annotations

from pathlib import Path

import httpx
import mlflow
import psutil
import pytest

from airflow_zen import Artifact, MLflowServing, load
from airflow_zen.deployment.protocols import Rows, decode_predictions, encode_invocation
from airflow_zen.deployment.state import read_address

_EXAMPLE = Path(__file__).parents[2] / "dags_examples/train_promote_deploy.py"


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_better_model_is_served_and_a_worse_one_is_refused(
    run_dag_test, load_dag_file, server, monkeypatch, tmp_path
):
    """The better of two answers requests; a worse candidate is neither promoted nor deployed."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__DEPLOYMENTS_DIR", str(tmp_path / "deployments"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    module = load_dag_file(_EXAMPLE.read_text(), "train_promote_deploy")
    module.TARGETS = {"mlflow": MLflowServing()}

    def run(iterations):
        conf = {"rows": 1000, "iterations": iterations}
        ended = run_dag_test(module.train_promote_deploy(), run_conf=conf)
        states = {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}
        assert "failed" not in states.values(), states
        return states

    def champion():
        return mlflow.MlflowClient(server.uri).get_model_version_by_alias(module.MODEL, "champion")

    try:
        assert run([2, 20])["deploy_arrival_delay-mlflow"] == "success"
        served = load(Artifact("deployments/arrival_delay-mlflow").latest())
        assert (served.version, champion().version) == ("1", "1")
        better = load(Artifact("train_promote_deploy/register").latest())
        assert better.n_iter_ == 20
        flight = load(Artifact("train_promote_deploy/departures.test").latest())[module.FEATURES][:1]
        body = encode_invocation(Rows.from_value(flight))
        answer = httpx.post(served.predict_url, json=body, trust_env=False, timeout=60).json()
        assert decode_predictions(answer) == pytest.approx([*better.predict(flight)])

        states = run([1, 2])
        assert states["deploy_arrival_delay-mlflow"] == "skipped"
        assert champion().version == "1"
        assert load(Artifact("deployments/arrival_delay-mlflow").latest()) == served
    finally:
        if address := read_address(tmp_path / "deployments"):
            service = psutil.Process(address.pid)
            service.terminate()
            service.wait(20)
