"""Promises of a deployment whose store, MLflow, service or buffer fails on the way."""

from __future__ import annotations

import shutil
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from airflow.sdk import dag
from sklearn.linear_model import LinearRegression

from airflow_zen import Artifact, ArtifactRef, deploy, load, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.deployment import prediction_log
from airflow_zen.deployment.client import start_service
from airflow_zen.deployment.prediction_log import Prediction, PredictionLog
from airflow_zen.deployment.step import add_output_schema
from airflow_zen.errors import DeploymentFailed, StoreUnavailable
from airflow_zen.lineage.mlflow.models import ANY_OUTPUT
from airflow_zen.lineage.mlflow.sync import sync_pending
from airflow_zen.transports import open_transport
from tests.deployment.conftest import wait_until
from tests.deployment.light_target import KILL_AFTER_WRITE, LightServing
from tests.harness import run_dag
from tests.servers.flaky import Failure, FlakyProxy


@ml_step
def rows() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["a", "b"])


@ml_step
def fit(table: pd.DataFrame, slope: float) -> LinearRegression:
    return LinearRegression().fit(table, slope * table.sum(axis=1))


@ml_step(cache=False)
def lose(model: ArtifactRef, lost: bool) -> None:
    if lost:
        shutil.rmtree(model.uri)


def deploying(slope: float, lost: bool = False, token: str = "", start: float = 0.0):
    @dag(dag_id="d", schedule=None, start_date=datetime(2026, 1, 1))
    def d():
        table = rows()
        model = fit(table, slope)
        lose(model, lost) >> deploy(
            model, to=LightServing(start=start), rows=table, name="m", token_conn_id=token, log_predictions=False
        )

    return d()


@pytest.fixture
def in_airflow(service, monkeypatch):
    """Let tasks of this process deploy with the service."""
    monkeypatch.setenv("AIRFLOW__ZEN__DEPLOYMENTS_DIR", str(service.directory))
    return service


def test_deployment_needs_mlflow_for_no_more_than_the_tag(in_airflow, monkeypatch, caplog):
    """While MLflow is away, the output of a step is deployed, with a connection's token; the tag waits without a warning."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("AIRFLOW_CONN_CLIENTS", '{"conn_type": "http", "password": "secret"}')
    run = run_dag(deploying(1.0, token="clients"))
    assert run.states["deploy_m"] == "success", run.task("deploy_m").error
    assert "has no tag of its deployment in MLflow" not in caplog.text
    served = load(Artifact("deployments/m").latest())
    assert in_airflow.predict(served.predict_url).status_code == 401
    assert in_airflow.predict(served.predict_url, "secret").json()["predictions"] == [3.0]
    assert "secret" not in caplog.text


class TagOutage(FlakyProxy):
    """A proxy of MLflow that goes down with the first request of a kind."""

    broken, awaited = False, "model-versions/set-tag"

    def fate(self, request: str) -> Failure | None:
        if self.awaited in request and not self.broken:
            self.broken = self.down = True
        return super().fate(request)


@pytest.mark.server
@pytest.mark.parametrize("awaited", ["model-versions/set-tag", "model-versions/search", "runs/create"])
def test_tag_is_sent_when_mlflow_is_back(in_airflow, server, monkeypatch, awaited):
    """Whatever MLflow does not answer of a deployment, the version gets its tag with the lineage, also an output's."""
    name = f"sum_{uuid.uuid4().hex[:8]}"

    @ml_step(model=name)
    def register(table: pd.DataFrame) -> LinearRegression:
        return LinearRegression().fit(table, table.sum(axis=1))

    @dag(dag_id=name, schedule=None, start_date=datetime(2026, 1, 1))
    def deployed():
        table = rows()
        model = register(table)
        deployed = f"{name}@challenger" if awaited.endswith("set-tag") else model
        model >> deploy(deployed, to=LightServing(), name=name, rows=table, log_predictions=False)

    with TagOutage(server.port) as proxy:
        proxy.awaited = awaited
        monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", proxy.uri)
        run = run_dag(deployed())
        assert run.states[f"deploy_{name}"] == "success", run.task(f"deploy_{name}").error
        assert proxy.broken
        version = lambda: mlflow.MlflowClient(server.uri).get_model_version(name, "1")  # noqa: E731
        if awaited.endswith("set-tag"):
            assert f"zen.deployment.{name}" not in version().tags
        proxy.heal()
        stack = open_stack()
        sync_pending(stack.lineage, stack.records, stack.clock)
        endpoint = load(Artifact(f"deployments/{name}").latest()).endpoint
        assert version().tags[f"zen.deployment.{name}"] == endpoint


def test_model_that_the_store_lost_leaves_the_old_one(in_airflow):
    """A model whose files are gone from the store fails the task with what to do, and the old server goes on."""
    run_dag(deploying(1.0), run_id="r1")
    served = load(Artifact("deployments/m").latest())
    run = run_dag(deploying(2.0, lost=True), run_id="r2")
    assert run.states["deploy_m"] == "failed"
    assert "Run the step that made it again" in str(run.task("deploy_m").error)
    assert in_airflow.predict(served.predict_url).json()["predictions"] == [3.0]


def test_alias_that_mlflow_does_not_answer_leaves_the_old_one(in_airflow, monkeypatch):
    """While MLflow is away, a version of the registry is not looked up: the task fails, and the old server goes on."""
    run_dag(deploying(1.0), run_id="r1")
    served = load(Artifact("deployments/m").latest())
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    @dag(dag_id="by_alias", schedule=None, start_date=datetime(2026, 1, 1))
    def by_alias():
        deploy("m@champion", to=LightServing(), rows=rows(), log_predictions=False)

    run = run_dag(by_alias(), run_id="r2")
    assert run.states["deploy_m"] == "failed"
    assert "127.0.0.1:9" in str(run.task("deploy_m").error)
    assert in_airflow.predict(served.predict_url).json()["predictions"] == [3.0]


def test_task_whose_service_is_killed_fails_and_its_next_try_deploys(service):
    """A task that waits for a killed service fails with its log; the next try deploys with the service that is started."""
    service.deploy("m", 1.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.deploy, "m", 2.0, start=60)
        assert wait_until(lambda: len(service.servers()) == 4, 10)
        service.kill()
        with pytest.raises(DeploymentFailed, match="The deployment service does not answer"):
            waiting.result()
    service.start()
    assert service.deploy("m", 2.0).version == "2.0"


def test_service_that_is_killed_before_requests_move_serves_the_new_version(service):
    """What was written down is served at the next start, also if the service was killed before it moved the requests."""
    first = service.deploy("m", 1.0)
    (service.directory / KILL_AFTER_WRITE).touch()
    with pytest.raises(DeploymentFailed, match="The deployment service does not answer"):
        service.deploy("m", 2.0)
    assert service.process.wait(10) == -signal.SIGKILL
    assert wait_until(lambda: not service.servers(), 10)
    (service.directory / KILL_AFTER_WRITE).unlink()
    service.start()
    assert wait_until(lambda: service.client.describe_state("m") == "serving", 20)
    assert service.predict(first.predict_url).json() == {"predictions": [6.0]}
    assert len([*(service.directory / "m").iterdir()]) == 1
    assert service.deploy("m", 2.0).version == "2.0"
    assert len(service.servers()) == 2


def test_service_is_started_once(tmp_path):
    """Tasks that deploy at the same time find one service; one of them starts it."""
    with ThreadPoolExecutor(3) as pool:
        addresses = {*pool.map(start_service, [tmp_path / "deployments"] * 3)}
    (address,) = addresses
    process = psutil.Process(address.pid)
    process.terminate()
    process.wait(20)


def prediction(at: float = 0.0, size: int = 10) -> Prediction:
    return Prediction("m", "1", "d", at, 0.01, b'{"instances": [[1]]}', b'{"predictions": [1]}' + b" " * size)


def test_full_buffer_drops_and_counts(monkeypatch, tmp_path):
    """While the store hangs, requests are not held up: what does not fit into the buffer is dropped and counted."""
    monkeypatch.setattr(prediction_log, "MAX_WAITING", 50)
    opened = threading.Event()

    def hang(stack: str):
        opened.wait(30)
        return open_transport(str(tmp_path), {})

    log = PredictionLog(hang)
    begun = time.monotonic()
    for _ in range(80):
        log.add("", prediction())
    assert time.monotonic() - begun < 5
    opened.set()
    log.close()
    assert (log.written, log.dropped) == (50, 30)
    monkeypatch.setattr(prediction_log, "MAX_WAITING_BYTES", 100)
    log.add("", prediction(size=1000))
    assert log.dropped == 31


def test_predictions_that_a_store_refuses_are_counted():
    """A store that is away is tried again, and then its predictions are counted as dropped; no error reaches a request."""

    def away(stack: str):
        raise StoreUnavailable("away")

    log = PredictionLog(away)
    log.add("", prediction())
    log.close()
    assert (log.written, log.dropped) == (0, 1)


def test_signature_says_what_the_model_predicts(tmp_path):
    """A signature without outputs gets them: numbers as tensors, tables as columns, texts; one that has them stays."""
    mlmodel = tmp_path / "MLmodel"
    for predicted, expected in [
        (np.array([[1.5]]), '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 1]}}]'),
        (pd.Series([1], dtype="Int64"), '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'),
        (pd.DataFrame({"a": [1.5]}), '[{"type": "double", "name": "a", "required": true}]'),
        (["yes"], '[{"type": "string", "required": true}]'),
    ]:
        for unknown in ("null", f"'{ANY_OUTPUT}'"):
            mlmodel.write_text(f"signature:\n  inputs: '[]'\n  outputs: {unknown}\n  params: null\n")
            add_output_schema(tmp_path, predicted)
            assert f"  outputs: '{expected}'\n" in mlmodel.read_text()
    before = mlmodel.read_text()
    add_output_schema(tmp_path, ["no"])
    assert mlmodel.read_text() == before
