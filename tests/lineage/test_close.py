"""Promises of `airflow_zen.lineage.close`: the parent run ends as its DAG run did."""

import time

import pytest

from airflow_zen.lineage.close import close_parent
from airflow_zen.lineage.rest import MlflowRest, TrackingServer
from airflow_zen.lineage.step_run import StepState
from tests.servers.process import free_port

pytestmark = pytest.mark.server


@pytest.mark.parametrize("state", [StepState.FINISHED, StepState.FAILED])
def test_the_parent_ends_as_the_dag_run(client, rest, recorder, step, dag_id, state):
    """The parent run gets the state and time it is told; other DAG runs of the DAG go on."""
    one, other = (
        client.get_run(recorder.start(step(run_id=run)).run_id).data.tags["mlflow.parentRunId"] for run in ("r1", "r2")
    )
    assert close_parent(rest, dag_id, "r1", state, ended=1_700_000_009.0)
    info = client.get_run(one).info
    assert (info.status, info.end_time) == (state, 1_700_000_009_000)
    assert client.get_run(other).info.status == "RUNNING"


def test_steps_that_never_ended_are_killed(client, rest, recorder, step, ended, dag_id):
    """A step run whose process died without a word ends as KILLED; one that ended keeps its state."""
    died, failed = recorder.start(step("a")), recorder.start(step("b"))
    recorder.finish(ended(step("b"), StepState.FAILED), failed)
    assert close_parent(rest, dag_id, "manual__1", StepState.FAILED, ended=1_700_000_009.0)
    assert [client.get_run(o.run_id).info.status for o in (died, failed)] == ["KILLED", "FAILED"]


def test_nothing_to_close(rest, recorder, step, dag_id):
    """A DAG run that recorded nothing has nothing to close, whether its DAG is known to MLflow or not."""
    assert close_parent(rest, dag_id, "r", StepState.FINISHED, ended=1.0)
    recorder.start(step())
    assert close_parent(rest, dag_id, "another", StepState.FINISHED, ended=1.0)


def test_a_scheduler_is_not_held_up(dag_id):
    """With the server away it returns False at once, and tries again when the pause is over."""
    now = [0.0]
    server = TrackingServer(f"http://127.0.0.1:{free_port()}")
    rest = MlflowRest(server, pause=30, clock=lambda: now[0])
    began = time.monotonic()
    assert not close_parent(rest, dag_id, "r", StepState.FINISHED, ended=1.0)
    assert not close_parent(rest, dag_id, "r", StepState.FINISHED, ended=1.0)
    assert (rest.sent, rest.away) == (1, True)
    now[0] = 31.0
    assert not close_parent(rest, dag_id, "r", StepState.FINISHED, ended=1.0)
    assert rest.sent == 2
    assert time.monotonic() - began < 2
