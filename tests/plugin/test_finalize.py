"""Promises of `airflow_zen.plugin.finalize`: what a DAG run's end asks for is done, or kept for the next process."""

import json
import os
import subprocess
import sys
import time

import pytest
from msgspec.structs import asdict

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.plugin.finalize import finalize_dag_runs, finalize_in_all_stacks
from airflow_zen.plugin.worker import EXIT_CODE_PENDING, DagRunWorker
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import FinishedDagRun, StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport
from tests.servers.mlflow_server import mlflow_away, mlflow_server
from tests.servers.process import free_port

END = FinishedDagRun("d", "r", StepState.FINISHED, 9.0)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    return str(tmp_path / "root")


def test_an_end_is_recorded_before_anything_fails(root, tmp_path):
    """With Airflow's database and MLflow both away the end of a DAG run is in the store, for a later process."""
    settings = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__ZEN__MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:////{tmp_path}/empty.db",
    }
    command = [sys.executable, "-m", "airflow_zen.plugin.finalize"]
    done = subprocess.run(
        command, input=json.dumps([asdict(END)]), text=True, capture_output=True, env={**os.environ, **settings}
    )
    assert done.returncode == EXIT_CODE_PENDING, done.stderr
    assert "backfill totals could not be read" in done.stdout
    assert list(StepRunRecords(open_transport(root, {})).finished_dag_runs()) == [END]


@pytest.mark.server
def test_more_steps_than_one_delivery_takes(root, tmp_path, monkeypatch):
    """While a step is undelivered the DAG run is not done, and its end is kept until the graph has all steps."""
    monkeypatch.setattr("airflow_zen.lineage.mlflow.sync._MAX_DELIVERIES", 2)
    with mlflow_server(tmp_path / "mlflow") as server:
        monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
        stack = open_stack()
        _queue_three_steps(stack)
        assert not finalize_dag_runs(stack, [END])
        assert [run.id.map_index for run in stack.records.undelivered()] == [2]
        assert list(stack.records.finished_dag_runs()) == [END]
        assert finalize_dag_runs(stack, [])
        assert not stack.records.has_undelivered("d", "r")
        assert not list(stack.records.finished_dag_runs())


@pytest.mark.server
@pytest.mark.slow
def test_the_first_try_after_mlflow_is_back(airflow_db, root, tmp_path, monkeypatch):
    """The first process that the worker starts after MLflow is back delivers everything."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    # However long the server takes to come back, the next try is soon after.
    monkeypatch.setattr("airflow_zen.plugin.worker._MAX_RETRY_DELAY", 2.0)
    exits = tmp_path / "exits"
    process = (
        "import sys; from airflow_zen.plugin.finalize import main; code = main(); "
        f"open({str(exits)!r}, 'a').write(f'{{code}} '); sys.exit(code)"
    )
    with mlflow_away(tmp_path / "mlflow") as server:
        monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
        stack = open_stack()
        _queue_three_steps(stack)
        worker = DagRunWorker([sys.executable, "-c", process], retry_delay=2.0)
        worker.enqueue(END)
        _wait_until(exits.exists)
        server.start()
        tried = len(exits.read_text().split())
        _wait_until(lambda: "0" in exits.read_text().split())
        # A process that was under way when the server came up may have asked too early.
        assert exits.read_text().split()[tried:] in (["0"], [str(EXIT_CODE_PENDING), "0"])
        assert not [*stack.records.undelivered(), *stack.records.finished_dag_runs()]
        experiment = stack.lineage.rest.get("experiments/get-by-name", {"experiment_name": "airflow/d"})["experiment"]
        runs = stack.lineage.rest.post("runs/search", {"experiment_ids": [experiment["experiment_id"]]})["runs"]
        assert [run["info"]["status"] for run in runs] == ["FINISHED"] * 4


def _queue_three_steps(stack):
    for index in range(3):
        step = StepRun(StepRunId("d", "r", "t", index, 1), state=StepState.FINISHED, started=1.0, ended=2.0)
        stack.records.put(step, delivered=False)


def _wait_until(condition):
    last = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.05)


@pytest.mark.server
def test_every_stack_is_finalized(root, tmp_path, monkeypatch, caplog):
    """Every stack is delivered and closed; a stack that cannot be opened stops no other, and is tried again."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    with mlflow_server(tmp_path / "mlflow") as server:
        stacks = tmp_path / "stacks.yaml"
        sound = f"b: {{artifact_root: {tmp_path}/b, mlflow_tracking_uri: '{server.uri}'}}"
        stacks.write_text(f"stacks: {{a: {{artifact_root: s3://a, artifact_conn_id: nosuch}}, {sound}}}")
        step = StepRun(StepRunId("d", "r", "t"), state=StepState.FINISHED, started=1.0, ended=2.0)
        named = open_stack(Settings.read("b"))
        named.records.put(step, delivered=False)
        assert finalize_in_all_stacks([END]) == 1
        assert "The DAG runs in stack 'a' could not be finalized" in caplog.text
        assert not list(named.records.undelivered())
        assert not list(named.records.finished_dag_runs())
        stacks.write_text(f"stacks: {{{sound}}}")
        assert finalize_in_all_stacks([END]) == 0
        experiment = named.lineage.rest.get("experiments/get-by-name", {"experiment_name": "airflow/d"})["experiment"]
        runs = named.lineage.rest.post("runs/search", {"experiment_ids": [experiment["experiment_id"]]})["runs"]
        assert {run["info"]["status"] for run in runs} == {"FINISHED"}
