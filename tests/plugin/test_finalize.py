"""Promises of `airflow_zen.plugin.finalize`: what a DAG run's end asks for is done, or kept for the next process."""

import json
import os
import subprocess
import sys
import time

import msgspec
import pytest
from msgspec.structs import replace

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.plugin.finalize import finalize_dag_runs, finalize_in_all_stacks
from airflow_zen.plugin.worker import (
    EXIT_CODE_PENDING,
    DagRunWorker,
    FinalizeRequest,
    StackAccess,
    StoredConnection,
    find_all_stacks,
)
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


def test_an_end_is_recorded_before_anything_fails(root, tmp_path, monkeypatch):
    """With Airflow's database and MLflow both away the end of a DAG run is in the store, for a later process."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    database = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:////{tmp_path}/empty.db"}
    done = _run_process(FinalizeRequest([END], find_all_stacks(), is_backfill=True), **database)
    assert done.returncode == EXIT_CODE_PENDING, done.stderr
    assert b"backfill totals could not be read" in done.stdout
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


def _run_process(
    request, script="import runpy; runpy.run_module('airflow_zen.plugin.finalize', run_name='__main__')", **environment
):
    command = [sys.executable, "-c", script]
    given = msgspec.json.encode(request)
    return subprocess.run(command, input=given, capture_output=True, env={**os.environ, **environment})


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
        assert finalize_in_all_stacks(FinalizeRequest([END], find_all_stacks())) == 1
        assert "The DAG runs in stack 'a' could not be finalized" in caplog.text
        assert not list(named.records.undelivered())
        assert not list(named.records.finished_dag_runs())
        stacks.write_text(f"stacks: {{{sound}}}")
        assert finalize_in_all_stacks(FinalizeRequest([END], find_all_stacks())) == 0
        experiment = named.lineage.rest.get("experiments/get-by-name", {"experiment_name": "airflow/d"})["experiment"]
        runs = named.lineage.rest.post("runs/search", {"experiment_ids": [experiment["experiment_id"]]})["runs"]
        assert {run["info"]["status"] for run in runs} == {"FINISHED"}


_WITHOUT_AIRFLOW = """
import sys
sys.modules["airflow"] = None
from airflow_zen.plugin.finalize import main
sys.exit(main())
"""


@pytest.mark.server
def test_the_process_does_not_load_airflow(root, tmp_path, server, monkeypatch):
    """A process delivers, closes and draws the runs of a stack without Airflow, with the connections in the request."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_CONN_ID", "zen_mlflow")
    monkeypatch.setenv("AIRFLOW_CONN_ZEN_MLFLOW", json.dumps({"conn_type": "mlflow", "host": server.uri}))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    stack = open_stack()
    step = StepRun(StepRunId("light", "r", "t"), state=StepState.FINISHED, started=1.0, ended=2.0)
    stack.records.put(step, delivered=False)
    request = FinalizeRequest([replace(END, dag_id="light")], find_all_stacks())
    done = _run_process(request, _WITHOUT_AIRFLOW, AIRFLOW_CONN_ZEN_MLFLOW="")
    assert done.returncode == 0, done.stderr
    assert not [*stack.records.undelivered(), *stack.records.finished_dag_runs()]
    experiment = stack.lineage.rest.get("experiments/get-by-name", {"experiment_name": "airflow/light"})["experiment"]
    runs = stack.lineage.rest.post("runs/search", {"experiment_ids": [experiment["experiment_id"]]})["runs"]
    assert [run["info"]["status"] for run in runs] == ["FINISHED"] * 2


def test_connections_are_read_where_no_task_runs(root, monkeypatch):
    """Airflow's servers read the connections of a stack; a process that runs tasks leaves that to the child process."""
    connection = {"conn_type": "aws", "login": "key", "password": "hush", "extra": {"region_name": "eu-west-1"}}
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", "s3://bucket/root")
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID", "zen_store")
    monkeypatch.setenv("AIRFLOW_CONN_ZEN_STORE", json.dumps(connection))
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)
    assert find_all_stacks() == [StackAccess("default")]
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    (found,) = find_all_stacks()
    assert msgspec.json.decode(msgspec.json.encode(found), type=StackAccess) == found
    assert found.artifact_root == "s3://bucket/root"
    assert found.connection == StoredConnection(
        "zen_store", "aws", None, "key", "hush", None, None, connection["extra"]
    )
    monkeypatch.delenv("AIRFLOW_CONN_ZEN_STORE")
    assert find_all_stacks() == [StackAccess("default")]


def test_the_process_is_a_little_nicer():
    """The process gives way to the scheduler, and has half of its share of a core: enough beside training on every core."""
    script = "from airflow_zen.plugin.finalize import main; import os; main(); print(os.nice(0))"
    done = _run_process(FinalizeRequest(), script)
    assert int(done.stdout) == min(os.nice(0) + 3, 19), done.stderr
