"""Promises about MLflow: what code logs in another process is in the step's run, also while the server is away."""

from importlib.metadata import version

import pytest
from mlflow import MlflowClient

from airflow_zen.config.settings import open_stack
from airflow_zen.runtimes import Python
from tests.runtimes.conftest import SMALL, make_environment

_FILE = """
from airflow.sdk import dag
from airflow_zen import ml_step

@ml_step
def trains(depth: int) -> float:
    import mlflow
    mlflow.log_metric("loss", 0.5)
    with mlflow.start_run(nested=True, run_name="fold"):
        mlflow.log_param("fold", 1)
    return 0.5

@dag(schedule=None)
def pipeline():
    trains(3)
"""


@pytest.fixture(scope="module")
def has_mlflow():
    """An interpreter that has MLflow's client, and where this package is not installed."""
    return Python(make_environment(*SMALL, f"mlflow-skinny=={version('mlflow')}"))


def test_user_code_logs_into_the_run_of_the_step(run_file, has_mlflow, root, server, monkeypatch):
    """A metric is in the step's run, and a nested run is under it; MLflow's client needs no configuration."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    run = run_file(_FILE, has_mlflow)
    assert run.states == {"trains": "success"}, run.tasks[-1].error
    client = MlflowClient(server.uri)
    (experiment,) = client.search_experiments(filter_string="name = 'airflow/pipeline'")
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    step = runs["trains"]
    assert (step.data.metrics["loss"], step.info.status) == (0.5, "FINISHED")
    assert runs["fold"].data.params == {"fold": "1"}
    assert runs["fold"].data.tags["mlflow.parentRunId"] == step.info.run_id


def test_what_code_logs_while_mlflow_is_away_is_kept(run_file, has_mlflow, root, monkeypatch):
    """The step succeeds, and what it logged waits in the artifact root."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run = run_file(_FILE, has_mlflow)
    assert run.states == {"trains": "success"}, run.tasks[-1].error
    transport = open_stack(lineage=False).store.transport
    (requests,) = [key for key in transport.list("runs") if key.endswith("requests.jsonl")]
    assert b'"loss"' in transport.read(requests)
