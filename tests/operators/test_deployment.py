"""Promises of `deploy` in Airflow's real task runner, with a real MLflow and MLflow's own scoring server."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.linear_model import LinearRegression

from airflow_zen import (
    Check,
    Deployment,
    MLflowServing,
    NotNull,
    ValidationReport,
    deploy,
    load,
    ml_step,
    predictions,
    validate,
)
from airflow_zen.config.settings import open_stack
from airflow_zen.deployment.client import ServiceClient
from airflow_zen.deployment.protocols import Rows, decode_predictions, encode_invocation
from airflow_zen.deployment.state import read_address
from airflow_zen.errors import StepDefinitionError
from airflow_zen.runs.step_run import StepRunId
from tests.harness import run_dag
from tests.operators.pipelines import pipeline
from tests.operators.unstable_model import Unstable

pytestmark = pytest.mark.usefixtures("root")


def flights() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame({"distance": generator.integers(80, 5000, 1000), "dep_delay": generator.normal(size=1000)})


@ml_step
def numbers() -> pd.DataFrame:
    return flights()


def delays(frame: pd.DataFrame) -> Any:
    return frame["dep_delay"] * 0.9 + frame["distance"] / 1000


def same_distances(table: Any, reference: pd.DataFrame) -> ValidationReport:
    """Report whether the distances of the requests are those that the model was trained on."""
    found = {*table["distance"].to_pylist()} ^ {*reference["distance"]}
    return ValidationReport("distances", [Check(name="same", passed=not found, observed=f"{found}", expected="set()")])


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A directory of deployments, whose service ends with the test."""
    directory = tmp_path / "deployments"
    monkeypatch.setenv("AIRFLOW__ZEN__DEPLOYMENTS_DIR", str(directory))
    yield directory
    if address := read_address(directory):
        process = psutil.Process(address.pid)
        process.terminate()
        process.wait(20)


def dag_of(name: str, model: Any) -> Any:
    """A DAG that trains one kind of model, which becomes a version of the registered one."""

    @ml_step(model=name)
    def fit(table: pd.DataFrame) -> Any:
        return model.fit(table, delays(table))

    return pipeline(lambda: fit(numbers()), dag_id=f"train_{name}")


def deploying(name: str) -> Any:
    return pipeline(lambda: deploy(f"{name}@champion", to=MLflowServing(), rows=numbers()), dag_id=f"deploy_{name}")


@pytest.mark.server
@pytest.mark.slow
def test_champion_is_served_replaced_and_rolled_back(server, service, monkeypatch):
    """The champion answers 1,000 rows as in process; the same again does nothing; the next replaces it; one that fails does not."""
    name = f"flight_delay_{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    client = mlflow.MlflowClient(server.uri)
    frame = flights()
    body = encode_invocation(Rows.from_value(frame))

    def promote(model: Any, version: str) -> None:
        assert set(run_dag(dag_of(name, model), run_id=f"train{version}").states.values()) == {"success"}
        client.set_registered_model_alias(name, "champion", version)

    promote(LinearRegression(), "1")
    first = run_dag(deploying(name), run_id="r1").task(f"deploy_{name}")
    assert first.state == "success", first.error
    assert [*first.events] == [f"deployments/{name}"]
    deployed = open_stack().names.get(f"deployments/{name}")
    record: Deployment = load(deployed.ref)
    assert (record.model, record.version, record.owner) == (name, "1", "airflow")
    answer = httpx.post(record.predict_url, json=body, trust_env=False, timeout=60).json()
    expected = LinearRegression().fit(frame, delays(frame)).predict(frame)
    np.testing.assert_allclose(decode_predictions(answer), expected)
    assert client.get_model_version(name, "1").tags[f"zen.deployment.{name}"] == record.endpoint
    lineage = open_stack().records.get(StepRunId(f"deploy_{name}", "r1", f"deploy_{name}"))
    assert lineage.inputs["model"].digest == record.digest

    again = run_dag(deploying(name), run_id="r2").task(f"deploy_{name}")
    assert (again.state, again.events) == ("success", {})
    assert open_stack().names.get(f"deployments/{name}").version == deployed.version

    promote(Unstable(), "2")
    failed = run_dag(deploying(name), run_id="r3").task(f"deploy_{name}")
    assert failed.state == "failed"
    assert f"The smoke test of '{name}' failed: row 0 is " in str(failed.error)
    assert httpx.post(record.predict_url, json=body, trust_env=False, timeout=60).json() == answer

    def watch() -> None:
        recent = predictions(name)
        validate(recent, [NotNull("prediction"), NotNull("latency_ms")])
        validate(recent, same_distances, reference=numbers())

    watched = run_dag(pipeline(watch, dag_id="watch"))
    assert set(watched.states.values()) == {"success"}
    (table,) = [load(watched.xcom(task_id)) for task_id in watched.states if task_id.startswith("predictions_of")]
    assert len(table) == 2000
    assert {*table.column_names} >= {"distance", "dep_delay", "prediction", "model_version", "latency_ms"}
    ServiceClient.configured().stop(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model", MLflowServing()), "names no version of a registered model"),
        (("model@champion", "mlflow"), r"takes a target such as MLflowServing\(\), got 'mlflow'"),
        ((7, MLflowServing()), "takes 'name@alias' of a registered model"),
    ],
)
def test_what_cannot_be_deployed_is_told_when_the_dag_is_parsed(arguments, message):
    """A wrong model or target is an error of the DAG, and says what to write."""
    with pytest.raises(StepDefinitionError, match=message):
        pipeline(lambda: deploy(*arguments))


def test_the_output_of_a_step_needs_a_name():
    """A model that has no registered name is deployed under a given one, which is a part of an address."""
    with pytest.raises(StepDefinitionError, match="needs the name it is served under"):
        pipeline(lambda: deploy(numbers(), to=MLflowServing()))
    with pytest.raises(StepDefinitionError, match="cannot be named 'a/b'"):
        pipeline(lambda: deploy(numbers(), to=MLflowServing(), name="a/b"))
