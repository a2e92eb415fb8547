"""Promises of pruning with a real MLflow server."""

import time
import uuid

import pytest
from mlflow import MlflowClient
from msgspec.structs import replace
from sklearn.linear_model import LinearRegression

from airflow_zen.errors import LineageError
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.mlflow.sync import close_parent_run
from airflow_zen.pruning.retention import DAY
from airflow_zen.runs.step_run import CacheState, FinishedDagRun, StepRun, StepRunId, StepState
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from tests.pruning.conftest import stack_at
from tests.servers.mlflow_server import mlflow_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own: a prune reads all runs of the server, and tests leave thousands on the shared one."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def client(server):
    return MlflowClient(server.uri)


@pytest.fixture
def stack(server, tmp_path):
    """A stack that records in MLflow."""
    stack = stack_at(str(tmp_path / "root"))
    rest = MlflowRest(TrackingServer(server.uri))
    return replace(stack, lineage=MlflowRecorder(rest, stack.store.transport, stack.store.root))


@pytest.fixture
def dag():
    """A DAG that no other test has runs of."""
    return f"dag_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run_training_step(stack, dag):
    """Run a step that returns a model; return its record."""

    def run_train(slope, model="", dag_run="r", ended=True):
        def fit(slope: float) -> LinearRegression:
            return LinearRegression().fit([[0.0], [1.0]], [0.0, slope])

        begun = StepRun(StepRunId(dag, dag_run, "fit"), cache=CacheState.MISS, model=model)
        record = run_step(Step(fit, "fit"), Arguments.bind(fit, (slope,), {}), stack, begun)
        if ended:
            close_parent_run(stack.lineage.rest, FinishedDagRun(dag, dag_run, StepState.FINISHED, time.time()))
        return record

    return run_train


def runs_of(client, dag):
    experiment = client.get_experiment_by_name(f"airflow/{dag}")
    return client.search_runs([experiment.experiment_id])


def is_stored(stack, record):
    return not stack.store.missing(record.outputs.values())


def test_runs_keep_artifacts_until_they_are_deleted(stack, client, dag, run_training_step, prune_twice):
    """An artifact of a run in MLflow stays at any age; after run and model are deleted there, it is deleted."""
    record = run_training_step(1.0)
    report = prune_twice(stack, 400, older_than=30 * DAY, keep_last=0)
    assert is_stored(stack, record)
    holders = {("MLflow run", dag), ("model", "fit"), ("version", f"{dag}/fit")}
    assert {(each.referrer.kind, each.referrer.name) for each in report.usage_by_referrer} == holders
    models = client.search_logged_models([client.get_experiment_by_name(f"airflow/{dag}").experiment_id])
    for run in runs_of(client, dag):
        client.delete_run(run.info.run_id)
    prune_twice(stack, 400, older_than=30 * DAY, keep_last=0)
    assert is_stored(stack, record)
    client.delete_logged_model(models[0].model_id)
    assert prune_twice(stack, 400, older_than=30 * DAY, keep_last=0).deleted.artifacts == 1
    assert not is_stored(stack, record)


def test_old_runs_are_deleted_in_mlflow_when_asked(stack, client, dag, run_training_step, prune_twice):
    """With `expire_mlflow_runs` runs and models of old DAG runs move to MLflow's trash, and their artifacts are deleted."""
    record = run_training_step(2.0)
    assert prune_twice(stack, 10, older_than=30 * DAY, keep_last=0, expire_mlflow_runs=True).mlflow_runs == 0
    report = prune_twice(stack, 40, older_than=30 * DAY, keep_last=0, expire_mlflow_runs=True)
    assert report.deleted.artifacts == 1
    assert not is_stored(stack, record)
    assert not runs_of(client, dag)
    assert not client.search_logged_models([client.get_experiment_by_name(f"airflow/{dag}").experiment_id])


def test_a_dag_run_that_has_not_ended_stays(stack, client, dag, run_training_step, prune_twice):
    """A DAG run that is open in MLflow stays at any age: another Airflow may run it."""
    record = run_training_step(9.0, ended=False)
    prune_twice(stack, 40, older_than=30 * DAY, keep_last=0, expire_mlflow_runs=True)
    assert is_stored(stack, record)
    assert len(runs_of(client, dag)) == 2


def test_registered_versions_and_kept_runs_stay(stack, client, dag, run_training_step, prune_twice):
    """A DAG run with a registered model version, or tagged `zen.keep`, stays with its artifacts."""
    registered = run_training_step(3.0, model=f"{dag}-model", dag_run="registered")
    kept = run_training_step(4.0, dag_run="kept")
    parent = next(run for run in runs_of(client, dag) if run.data.tags.get("zen.run_key") == f"{dag}/kept")
    client.set_tag(parent.info.run_id, "zen.keep", "for the audit")
    dropped = run_training_step(5.0, dag_run="dropped")
    prune_twice(stack, 40, older_than=30 * DAY, keep_last=0, expire_mlflow_runs=True)
    assert [is_stored(stack, record) for record in (registered, kept, dropped)] == [True, True, False]
    assert len(runs_of(client, dag)) == 4


def test_a_registered_version_alone_keeps_its_artifact(stack, client, dag, run_training_step, prune_twice):
    """A registered version keeps its artifact at any age, even after run and model are deleted in MLflow."""
    record = run_training_step(8.0, model=f"{dag}-model")
    for run in runs_of(client, dag):
        client.delete_run(run.info.run_id)
    for model in client.search_logged_models([client.get_experiment_by_name(f"airflow/{dag}").experiment_id]):
        client.delete_logged_model(model.model_id)
    prune_twice(stack, 400, older_than=30 * DAY, keep_last=0)
    assert is_stored(stack, record)
    client.delete_registered_model(f"{dag}-model")
    prune_twice(stack, 400, older_than=30 * DAY, keep_last=0)
    assert not is_stored(stack, record)


def test_a_version_registered_by_address_keeps_its_artifact(stack, client, dag, prune_twice):
    """An artifact whose address was registered stays until that version is deleted."""
    ref = stack.save(uuid.uuid4().hex).ref
    client.create_registered_model(dag)
    client.create_model_version(dag, f"s3://store/root/artifacts/{ref.digest[:2]}/{ref.digest}")
    prune_twice(stack, 400, older_than=30 * DAY)
    assert not stack.store.missing([ref])
    client.delete_registered_model(dag)
    prune_twice(stack, 400, older_than=30 * DAY)
    assert stack.store.missing([ref])


def test_a_dry_run_deletes_nothing_in_mlflow(stack, client, dag, run_training_step, prune_after):
    """A dry run counts the runs that would be deleted in MLflow, and what would be unreferenced without them."""
    record = run_training_step(6.0)
    report = prune_after(stack, 40, dry_run=True, older_than=30 * DAY, keep_last=0, expire_mlflow_runs=True)
    assert (report.mlflow_runs, report.unreferenced.artifacts) == (2, 1)
    assert len(runs_of(client, dag)) == 2
    assert is_stored(stack, record)


def test_unavailable_mlflow_deletes_nothing(stack, run_training_step, prune_after):
    """While MLflow is unavailable, a prune fails before it deletes anything."""
    record = run_training_step(7.0)
    lost = stack.save(uuid.uuid4().hex).ref
    prune_after(stack, 2)
    away = MlflowRest(TrackingServer("http://127.0.0.1:9"))
    blind = replace(stack, lineage=MlflowRecorder(away, stack.store.transport, stack.store.root))
    with pytest.raises(LineageError):
        prune_after(blind, 40, older_than=30 * DAY, keep_last=0)
    assert is_stored(stack, record)
    assert not stack.store.missing([lost])
