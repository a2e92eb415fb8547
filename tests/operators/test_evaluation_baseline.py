"""Promises of a baseline in MLflow's registry, with a real server."""

from __future__ import annotations

import uuid
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from airflow_zen import Artifact, evaluate, load, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.lineage.graph.publish import GraphPublisher
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.runs.step_run import StepRunId
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("root")]


def flights() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    return pd.DataFrame({"x": x, "noise": generator.normal(size=300), "delay": 2 * x + generator.normal(size=300)})


@ml_step
def table() -> pd.DataFrame:
    return flights()


def evaluated(name: str, columns: list[str], baseline: Any = None) -> Any:
    @ml_step(model=name)
    def fit(columns: list[str]) -> LinearRegression:
        frame = flights()
        return LinearRegression().fit(frame[columns], frame["delay"])

    return pipeline(
        lambda: evaluate(fit(columns), table(), "delay", baseline=baseline or f"{name}@champion", on_failure="warn"),
        dag_id=name,
    )


def test_alias_of_a_registered_model_is_the_baseline(server, monkeypatch):
    """The version of an alias is looked up at each run and is an input; metrics are on the page of the new model."""
    name = f"regressor_{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    first = run_dag(evaluated(name, ["x"]), run_id="r1")
    assert load(first.xcom("evaluate_fit")).check("baseline").observed == "no baseline"
    client = mlflow.MlflowClient(server.uri)
    client.set_registered_model_alias(name, "champion", "1")

    second = run_dag(evaluated(name, ["noise"]), run_id="r2")
    assert set(second.states.values()) == {"success"}
    report = load(second.xcom("evaluate_fit"))
    assert not report.check("not_worse", "rmse").passed
    record = open_stack().records.get(StepRunId(name, "r2", "evaluate_fit"))
    assert record.inputs["baseline"].digest == first.xcom("fit")["digest"]

    server_rest, stack = MlflowRest(TrackingServer(server.uri)), open_stack()
    GraphPublisher(server_rest, stack.records, stack.store.transport, stack.store.root).publish(name, "r2")
    experiment = client.get_experiment_by_name(f"airflow/{name}").experiment_id
    shown = {model.source_run_id: model.metrics or [] for model in client.search_logged_models([experiment])}
    pages = [{metric.key: metric.value for metric in metrics} for metrics in shown.values() if metrics]
    assert [page["rmse"] for page in pages] == [report.metrics["rmse"]]
    assert pages[0]["baseline.rmse"] == report.metrics["baseline.rmse"]

    again = run_dag(evaluated(name, ["noise"]), run_id="r3")
    assert again.xcom("evaluate_fit")["cached"] is True
    client.set_registered_model_alias(name, "champion", "2")
    moved = run_dag(evaluated(name, ["noise"]), run_id="r4")
    assert moved.xcom("evaluate_fit")["cached"] is False
    assert load(moved.xcom("evaluate_fit")).passed


def test_version_that_no_step_registered_is_refused(server, monkeypatch, tmp_path):
    """A version of somebody else has no artifact; one of a step, and a version of an artifact, are baselines."""
    name = f"regressor_{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    client = mlflow.MlflowClient(server.uri)
    client.create_registered_model(name)
    client.create_model_version(name, "s3://bucket/elsewhere")
    client.set_registered_model_alias(name, "champion", "1")

    run = run_dag(evaluated(name, ["x"]))
    assert "was not registered by a step" in str(run.task("evaluate_fit").error)
    assert f"Register it with @ml_step(model={name!r})" in str(run.task("evaluate_fit").error)
    # The run above registered its model.
    client.set_registered_model_alias(name, "champion", "2")
    assert load(run_dag(evaluated(name, ["x"]), run_id="r2").xcom("evaluate_fit")).check("not_worse", "rmse").passed
    baseline = Artifact(f"{name}/fit").version("champion")
    open_stack().names.tag(f"{name}/fit", "latest", "champion")
    run = run_dag(evaluated(name, ["x"], baseline), run_id="r3")
    assert load(run.xcom("evaluate_fit")).check("not_worse", "rmse").passed
