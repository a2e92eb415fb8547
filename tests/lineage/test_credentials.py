"""A real MLflow with users: missing permissions fail no step, and its record is delivered later."""

import time

import pytest
from mlflow import MlflowClient
from msgspec.structs import replace

from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.mlflow.sync import sync_pending
from airflow_zen.runs.step_run import StepState
from tests.servers.guarded_mlflow import PASSWORD, guarded_mlflow

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """An MLflow with an administrator, where all other users may only read."""
    with guarded_mlflow(tmp_path_factory.mktemp("guarded")) as server:
        yield server.uri


@pytest.fixture
def recorder_of(guarded, transport, root):
    """Return a recorder with a user's credentials, as a new process has it."""

    def make(user, password):
        return MlflowRecorder(MlflowRest(TrackingServer(guarded, user, password)), transport, root)

    return make


@pytest.mark.parametrize("password", ["wrong", PASSWORD])
def test_missing_permissions(guarded, recorder_of, records, step, ended, dag_id, password, monkeypatch):
    """With a wrong password (401), or a user who may only read (403), the record is kept until the permissions are fixed."""
    admin = recorder_of("admin", PASSWORD)
    reader = f"reader-{dag_id}"
    admin.rest.post("users/create", {"username": reader, "password": PASSWORD})
    first = step("first")
    records.put(ended(first), admin.finish(ended(first), admin.start(first)))
    recorder, second = recorder_of(reader, password), replace(step("second"), parameters={"a": 1})
    finished = ended(second, StepState.FINISHED)
    opened = recorder.start(second)
    records.put(finished, recorder.finish(finished, opened))
    assert [run.id for run in records.undelivered()] == [second.id]
    assert sync_pending(recorder_of(reader, password), records, time.time).failed
    assert sync_pending(recorder_of("admin", PASSWORD), records, time.time).delivered == (second.id,)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    client = MlflowClient(guarded)
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    found = client.search_runs([experiment], "tags.`zen.kind` = 'step'")
    states = {run.data.tags["zen.task_id"]: run.info.status for run in found}
    assert states == {"first": "FINISHED", "second": "FINISHED"}
