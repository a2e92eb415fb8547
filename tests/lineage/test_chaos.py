"""Whatever happens to MLflow at any moment of a step, the step succeeds and nothing is lost."""

import os
import signal
import time

import pytest
from msgspec.structs import replace

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.mlflow.sync import sync_pending
from airflow_zen.runs.step_run import FinishedDagRun, StepRunId, StepState
from tests.servers.flaky import Failure, flaky
from tests.servers.mlflow_server import mlflow_server

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

# More than the requests of the first step of a DAG run that makes and registers a model, by two.
_MOST_REQUESTS = 26

_FAILURES = ((Failure.BEFORE, Failure.ANSWER_LOST), (Failure.AFTER, Failure.HALF_LOST))

# Seconds that a wait at each request does not end within; a busy machine does.
SOON = 45.0


@pytest.fixture
def proxy(server):
    with flaky(server.port) as running:
        yield running


@pytest.fixture
def model(root, transport):
    def make(name):
        store = ArtifactStore(root, transport)
        with store.upload_directory() as staging:
            (staging / "MLmodel").write_text(f"flavors: {{}}  # {name}")
            return store.put(
                staging, encoding="x.mlflow@1", type_name="x.M", libraries={}, summary={}, name=f"{name}/fit"
            )

    return make


@pytest.fixture
def live(step, ended, ref, model, records):
    """Run one step as `run_step` does, with the recorder of a new process; return its finished record."""

    def go(recorder, dag_id):
        run = step("fit", inputs={"table": ref(f"{dag_id}/load")}, parameters={"depth": 8}, model=dag_id)
        run = replace(run, id=StepRunId(dag_id, "r", "fit"))
        opened = recorder.start(run)
        finished = ended(run, outputs={"model": model(dag_id), "table": ref(f"{dag_id}/fit.table")})
        records.put(finished, recorder.finish(finished, opened))
        recorder.on_record_stored(finished)
        return finished

    return go


@pytest.fixture
def whole(client):
    """Check that MLflow has everything of the step once."""

    def look(dag_id):
        experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
        (parent,) = client.search_runs([experiment], "tags.`zen.kind` = 'dag_run'")
        (run,) = client.search_runs([experiment], "tags.`zen.kind` = 'step'")
        (made,) = client.search_logged_models([experiment])
        (version,) = client.search_model_versions(f"name = '{dag_id}'")
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {"depth": "8"}
        assert run.info.end_time == 1_700_000_002_500
        assert len(run.inputs.dataset_inputs) == 2
        assert [output.model_id for output in run.outputs.model_outputs] == [made.model_id]
        assert (str(made.status), version.run_id) == ("READY", run.info.run_id)

    return look


@pytest.mark.slow
@pytest.mark.parametrize("failure", list(Failure))
def test_a_server_that_dies_at_any_request(proxy, new_recorder, records, live, whole, client, dag_id, failure):
    """If the server fails before or after any request, or loses one answer, everything is delivered in the end.

    Each request fails in two ways: before or after it, and with a lost or a half answer, in turn.
    """
    for number in range(_MOST_REQUESTS):
        if failure not in _FAILURES[number % 2]:
            continue
        name = f"{dag_id}_{number}"
        proxy.arm(number, failure)
        began = time.monotonic()
        live(new_recorder(proxy.uri), name)
        assert time.monotonic() - began < SOON
        reached = proxy.requests > number
        proxy.heal()
        for _ in range(2):
            assert not sync_pending(new_recorder(proxy.uri), records, time.time).failed
        whole(name)
        if not reached:
            return
    raise AssertionError("more requests than expected")


def test_a_server_that_answers_slowly(proxy, transport, root, new_recorder, records, live, whole, dag_id):
    """A step gives up on a server after three answers of 4 s; everything is delivered in the end."""
    proxy.arm(-1, Failure.BEFORE)
    slow = MlflowRest(TrackingServer(proxy.uri), clock=lambda: 4.0 * proxy.requests)
    live(MlflowRecorder(slow, transport, root), dag_id)
    assert proxy.requests == 3
    assert len(list(records.undelivered())) == 1
    assert not sync_pending(new_recorder(proxy.uri), records, time.time).failed
    whole(dag_id)


@pytest.mark.slow
def test_a_server_that_is_killed(tmp_path, new_recorder, records, step, ended, ref, dag_id):
    """`kill -9` before, during and after steps of a DAG run delays no step, and all are delivered once."""
    with mlflow_server(tmp_path / "mlflow") as server:
        began = new_recorder(server.uri)
        during = began.start(step("during"))
        kill(server)
        waited = time.monotonic()
        finish(records, began, ended(step("during")), during)
        before = new_recorder(server.uri)
        finish(
            records, before, ended(step("before"), outputs={"o": ref(f"{dag_id}/before")}), before.start(step("before"))
        )
        assert time.monotonic() - waited < SOON
        server.start()
        after = new_recorder(server.uri)
        opened = after.start(step("after"))
        finish(records, after, ended(step("after")), opened)
        kill(server)
        records.put_finished_dag_run(FinishedDagRun(dag_id, "manual__1", StepState.FINISHED, 1_700_000_009.0))
        sync_pending(new_recorder(server.uri), records, time.time)
        assert len(list(records.finished_dag_runs())) == 1
        server.start()
        sync_pending(new_recorder(server.uri), records, time.time)
        assert (list(records.undelivered()), list(records.finished_dag_runs())) == ([], [])
        from mlflow import MlflowClient

        client = MlflowClient(server.uri)
        experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
        runs = client.search_runs([experiment])
        assert sorted((run.data.tags.get("zen.task_id", ""), run.info.status) for run in runs) == [
            ("", "FINISHED"),
            ("after", "FINISHED"),
            ("before", "FINISHED"),
            ("during", "FINISHED"),
        ]


def finish(records, recorder, run, opened):
    records.put(run, recorder.finish(run, opened))
    recorder.on_record_stored(run)


def kill(server):
    """Kill the server's process group with SIGKILL."""
    os.killpg(server.pid, signal.SIGKILL)
    server.stop()
