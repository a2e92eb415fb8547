"""Promises of `airflow_zen.lineage.mlflow.sync`: a parent run gets the end state of its DAG run."""

import pytest

from airflow_zen.lineage.mlflow.errors import MlflowUnavailable
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.mlflow.sync import close_parent_run
from airflow_zen.runs.step_run import FinishedDagRun, StepState
from tests.servers.process import free_port

pytestmark = pytest.mark.server


@pytest.mark.parametrize("state", [StepState.FINISHED, StepState.FAILED])
def test_the_parent_gets_the_state_of_the_dag_run(client, rest, recorder, step, dag_id, state):
    """The parent run gets the state and the time; other DAG runs of the DAG keep running."""
    one, other = (
        client.get_run(recorder.start(step(run_id=run)).run_id).data.tags["mlflow.parentRunId"] for run in ("r1", "r2")
    )
    close_parent_run(rest, FinishedDagRun(dag_id, "r1", state, ended=1_700_000_009.0))
    info = client.get_run(one).info
    assert (info.status, info.end_time) == (state, 1_700_000_009_000)
    assert client.get_run(other).info.status == "RUNNING"


def test_steps_that_never_ended_are_killed(client, rest, recorder, step, ended, dag_id):
    """A step run whose process was killed becomes KILLED; one that has ended keeps its state."""
    died, failed = recorder.start(step("a")), recorder.start(step("b"))
    recorder.finish(ended(step("b"), StepState.FAILED), failed)
    close_parent_run(rest, FinishedDagRun(dag_id, "manual__1", StepState.FAILED, ended=1_700_000_009.0))
    assert [client.get_run(o.run_id).info.status for o in (died, failed)] == ["KILLED", "FAILED"]


def test_steps_on_later_pages_are_killed_too(client, rest, recorder, step, dag_id, monkeypatch):
    """All step runs that have not ended become KILLED, on whatever page MLflow returns them."""
    monkeypatch.setattr("airflow_zen.lineage.mlflow.rest._RUNS_PER_PAGE", 2)
    opened = [recorder.start(step("a", map_index=index)) for index in range(5)]
    close_parent_run(rest, FinishedDagRun(dag_id, "manual__1", StepState.FAILED, ended=1_700_000_009.0))
    assert {client.get_run(one.run_id).info.status for one in opened} == {"KILLED"}


def test_nothing_to_close(client, rest, recorder, step, dag_id):
    """Closing a DAG run without a parent run does nothing, whether MLflow has its DAG or not."""
    close_parent_run(rest, FinishedDagRun(dag_id, "r", StepState.FINISHED, ended=1.0))
    opened = recorder.start(step())
    close_parent_run(rest, FinishedDagRun(dag_id, "another", StepState.FINISHED, ended=1.0))
    assert client.get_run(client.get_run(opened.run_id).data.tags["mlflow.parentRunId"]).info.status == "RUNNING"


def test_an_outage_costs_one_wait(dag_id):
    """With the server unavailable, requests fail at once, and the server is tried again after `retry_after`."""
    now = [0.0]
    server = TrackingServer(f"http://127.0.0.1:{free_port()}")
    rest = MlflowRest(server, retry_after=30, clock=lambda: now[0])
    run = FinishedDagRun(dag_id, "r", StepState.FINISHED, ended=1.0)
    for _ in range(2):
        with pytest.raises(MlflowUnavailable):
            close_parent_run(rest, run)
    assert (rest.request_count, rest.is_unavailable) == (1, True)
    now[0] = 31.0
    with pytest.raises(MlflowUnavailable):
        close_parent_run(rest, run)
    assert rest.request_count == 2
