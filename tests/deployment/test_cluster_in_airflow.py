"""`deploy` to a cluster in Airflow's real task runner: deferred while the model starts, resumed, recorded."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from sklearn.linear_model import LinearRegression

from airflow_zen import Artifact, Deployment, KServe, deploy, ml_step
from airflow_zen.deployment import promote_canary, step
from tests.deployment.test_cluster import CANDIDATE, EMPTY, NAME, cluster, controller  # noqa: F401 - fixtures
from tests.harness import run_dag
from tests.operators.pipelines import pipeline
from tests.runtimes.pods import deferral_of
from tests.runtimes.triggers import resumption, run_trigger


@ml_step
def table() -> pd.DataFrame:
    return pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [2.0, 4.0, 1.0]})


@ml_step
def fit(rows: pd.DataFrame) -> LinearRegression:
    return LinearRegression().fit(rows, 2 * rows["a"] + 2 * rows["b"])


@ml_step(cache=False)
def finish(deployment: Deployment) -> Deployment:
    return promote_canary(deployment)


def test_a_deployment_is_deferred_and_recorded(cluster, controller, tmp_path, monkeypatch):  # noqa: F811
    """The task is deferred for the candidate and for the object, and returns a deployment with its asset's event."""
    root = tmp_path / "root"
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(root))
    monkeypatch.delenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID")
    target = KServe(kubernetes="cluster", artifact_root="pvc://models/zen", deferrable=True)
    extra = json.dumps({"kube_config": json.dumps(cluster.kubeconfig())})
    connections = {"cluster": {**EMPTY, "conn_type": "kubernetes", "extra": extra}}

    def served(**options):
        dag = pipeline(lambda: deploy(fit(table()), to=target, rows=table(), name="flight_delay"), dag_id="served")
        return run_dag(dag, connections=connections, **options).task("deploy_flight_delay")

    predicted: list[Any] = []
    real = step.predict_in_process
    monkeypatch.setattr(step, "predict_in_process", lambda *given: predicted.append(real(*given)) or predicted[-1])
    controller.paused = True
    task = served()
    for name in (CANDIDATE, NAME):
        path, options = deferral_of(task)
        assert options["name"] == name
        # What the controller loads is known when the object is there.
        controller.factors[controller.uri(name)] = 2.0
        controller.paused = False
        event = run_trigger(path, options, connections)
        controller.paused = True
        task = served(resumed=resumption(task.deferral.next_method, event))
    assert task.state == "success", task.error
    # Before the candidate, and for its smoke test: what has passed it is only waited for.
    assert len(predicted) == 2
    assert controller.uri(NAME).startswith("pvc://models/zen/artifacts/")
    assert [*task.events] == ["deployments/flight_delay"]
    assert list(controller.objects()) == [NAME]
    again = served(run_id="again")
    assert (again.state, again.events) == ("success", {})
    finishing = pipeline(lambda: finish(Artifact("deployments/flight_delay").latest()), dag_id="finishing")
    finished = run_dag(finishing, connections=connections).task("finish")
    assert "Deployment 'flight_delay' has no canary to promote." in str(finished.error)
