"""Promises of how MLflow shows sweeps: one run for the sweep, and in it one for each trial."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from airflow_zen import best, ml_step, sweep
from airflow_zen.config.settings import open_stack
from airflow_zen.lineage.mlflow.dag_runs import find_dag_run
from airflow_zen.lineage.mlflow.log_step import value_requests
from airflow_zen.lineage.mlflow.sync import close_parent_run
from airflow_zen.runs.step_run import FinishedDagRun, StepRun, StepRunId, StepState
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

DAG = "sweeps_in_mlflow"


@ml_step
def train(depth: int) -> dict:
    import mlflow

    mlflow.log_metric("loss", 1 - depth / 10)
    return {"auc": depth / 10}


@pytest.fixture
def client(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    return MlflowClient(server.uri)


@pytest.mark.server
def test_trials_are_nested_under_the_run_of_their_sweep(client):
    """All trials have parameters and metrics under the names of the step, reused trials too; the winner by a metric in MLflow."""
    built = pipeline(lambda: best(sweep(train, {"depth": [4, 8]}, metric="loss", mode="min")()), DAG)
    for run_id in ("r1", "r2"):
        done = run_dag(built, run_id)
        assert done.xcom("best_train")["parameters"] == {"depth": 8}
    experiment = client.get_experiment_by_name(f"airflow/{DAG}").experiment_id
    sweeps = client.search_runs([experiment], "tags.`zen.kind` = 'sweep'", order_by=["attributes.start_time ASC"])
    assert [run.data.tags["zen.sweep"] for run in sweeps] == ["sweep_train"] * 2
    for run, cached in zip(sweeps, ("miss", "hit"), strict=True):
        assert client.get_run(run.data.tags["mlflow.parentRunId"]).data.tags["zen.kind"] == "dag_run"
        inside = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        trials = client.search_runs([experiment], inside, order_by=["attributes.start_time ASC"])
        assert [trial.data.params["depth"] for trial in trials] == ["4", "8"]
        assert ["depth=4" in trials[0].info.run_name, "depth=8" in trials[1].info.run_name] == [True, True]
        assert [trial.data.metrics["auc"] for trial in trials] == [0.4, 0.8]
        assert [trial.data.metrics["loss"] for trial in trials] == pytest.approx([0.6, 0.2])
        assert {trial.data.tags["zen.cache"] for trial in trials} == {cached}
    close_parent_run(open_stack().lineage.rest, FinishedDagRun(DAG, "r2", StepState.FINISHED, 1e9))
    assert client.get_run(sweeps[1].info.run_id).info.status == "FINISHED"
    found = find_dag_run(DAG, "r2", open_stack().lineage.rest)
    assert len(found.steps) == 2


def test_reports_are_a_curve_beside_the_metric():
    """What a trial reported has the steps that it named, under a name of its own; the metrics keep theirs."""
    facts = {"trial:reports": {"0": 0.3, "5": 0.4}, "trial:metrics": {"auc": 0.5}}
    run = StepRun(StepRunId("d", "r", "t", 0), metadata=facts, sweep={"name": "s", "metric": "auc"})
    (request,) = value_requests(run, "id", {})
    sent = [(metric["key"], metric["value"], metric["step"]) for metric in request.body["metrics"]]
    assert [metric for metric in sent if not metric[0].startswith("zen.")] == [
        ("auc", 0.5, 0),
        ("auc.reported", 0.3, 0),
        ("auc.reported", 0.4, 5),
    ]
