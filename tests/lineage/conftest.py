"""Recorders and step runs: one MLflow server for the session, and a store for every test."""

import itertools
import uuid

import pytest
from mlflow import MlflowClient

from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef, content_digest
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport
from airflow_zen.transports.timeouts import Timeouts


class PatientRest(MlflowRest):
    """Wait for the server as long as the busy machine of the tests needs."""

    def __init__(self, server):
        super().__init__(server, Timeouts(connect=60.0, read=60.0))

    def limit_slow_responses(self, seconds):
        pass


@pytest.fixture
def rest(server):
    return PatientRest(TrackingServer(server.uri))


@pytest.fixture
def client(server):
    """MLflow's own client, which sees what users see."""
    return MlflowClient(server.uri)


@pytest.fixture
def root(tmp_path):
    """A path with characters that URLs quote: keys and addresses must not be quoted."""
    return str(tmp_path / "röot of artifacts")


@pytest.fixture
def transport(root):
    return open_transport(root, {})


@pytest.fixture
def records(transport):
    return StepRunRecords(transport)


@pytest.fixture
def new_recorder(server, transport, root):
    """Return a recorder as a new process has it, for this or another server."""

    def make(uri=server.uri):
        rest = PatientRest if uri == server.uri else MlflowRest
        return MlflowRecorder(rest(TrackingServer(uri)), transport, root)

    return make


@pytest.fixture
def recorder(new_recorder):
    return new_recorder()


@pytest.fixture
def dag_id():
    """The id of a DAG without runs of other tests."""
    return f"dag_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def step(dag_id):
    """Return the record of a running step."""

    def make(task="train", run_id="manual__1", map_index=-1, try_number=1, **facts):
        return StepRun(StepRunId(dag_id, run_id, task, map_index, try_number), started=1_700_000_000.0, **facts)

    return make


@pytest.fixture
def ref(root):
    """Return a ref of new content, or of `content`."""
    contents = itertools.count()

    def make(name, encoding="pandas.parquet@1", content=None):
        content = content or f"{name}{next(contents)}{root}"
        files = (ArtifactFile("data.parquet", 28_123, uuid.uuid5(uuid.NAMESPACE_OID, content).hex * 2),)
        digest = content_digest(encoding, "pandas.DataFrame", files)
        uri = f"{root}/artifacts/{digest[:2]}/{digest}"
        return ArtifactRef(digest, uri, encoding, "pandas.DataFrame", 28_123, name, "3 rows × 2 columns", files)

    return make


@pytest.fixture
def ended():
    """Return the record of the finished step."""
    from msgspec.structs import replace

    def end(run, state=StepState.FINISHED, **facts):
        return replace(run, state=state, ended=run.started + 2.5, **facts)

    return end


@pytest.fixture
def record_step(recorder, ended):
    """Record a whole step; return its MLflow run id."""

    def record(run, **facts):
        opened = recorder.start(run)
        assert recorder.finish(ended(run, **facts), opened)
        recorder.on_record_stored(run)
        return opened.run_id

    return record
