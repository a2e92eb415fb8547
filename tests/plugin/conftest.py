"""A real MLflow, and DAG runs in Airflow's database whose end our listener did not hear."""

import uuid
from datetime import datetime, timedelta

import pytest
from airflow.sdk import dag
from mlflow import MlflowClient

from airflow_zen import ml_step
from airflow_zen.plugin.listener import ZenPlugin

_OPTIONS = {"schedule": None, "start_date": datetime(2026, 1, 1), "dagrun_timeout": timedelta(hours=1)}


@ml_step
def number(fail: bool) -> int:
    if fail:
        raise ValueError("no number today")
    return 42


@pytest.fixture
def missed_dag_run(server, run_dag_test, tmp_path, monkeypatch):
    """Run a DAG whose end is missed; return its DAG run, and a function for the MLflow states of it and its steps."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    (listener,) = ZenPlugin.listeners
    client = MlflowClient(server.uri)

    def run(fail=False):
        @dag(dag_id=f"unheard_{uuid.uuid4().hex[:8]}", **_OPTIONS)
        def pipeline():
            number(fail)

        with monkeypatch.context() as without_listener:
            without_listener.setattr(listener, "_enqueue", lambda *_: None)
            ended = run_dag_test(pipeline())
        experiment = client.get_experiment_by_name(f"airflow/{ended.dag_id}").experiment_id

        def mlflow_statuses():
            return {run.data.tags["zen.kind"]: run.info.status for run in client.search_runs([experiment])}

        assert mlflow_statuses()["dag_run"] == "RUNNING"
        return ended, mlflow_statuses

    return run
