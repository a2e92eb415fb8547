"""Promises of the listener: a DAG run is closed and drawn in MLflow when it ends, in whatever process that is."""

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.api_fastapi.core_api.datamodels import dag_run as api_models
from airflow.api_fastapi.core_api.services.public import dag_run as api_services
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import dag
from airflow.sdk.timezone import utcnow
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from mlflow import MlflowClient

from airflow_zen import fused, ml_step
from airflow_zen.plugin.listener import DagRunListener, ZenPlugin
from airflow_zen.plugin.worker import DagRunWorker
from tests.airflow_version import AIRFLOW_VERSION, DagSerialization


@ml_step
def number(fail: bool = False) -> int:
    if fail:
        raise ValueError("no number today")
    return 42


@ml_step
def double(value: int) -> int:
    return 2 * value


@pytest.fixture
def mlflow_client(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    return MlflowClient(server.uri)


@pytest.fixture
def recording_worker():
    """A worker that only collects DAG runs."""

    class RecordingWorker(DagRunWorker):
        def __init__(self):
            self.runs = []

        def enqueue(self, run, is_backfill=False):
            self.runs.append(run)

        reconciled = False

        def reconcile(self):
            self.reconciled = True

    return RecordingWorker()


def ended_dag_run(dag_id, *task_types):
    tasks = [SimpleNamespace(task_type=kind) for kind in task_types]
    return SimpleNamespace(dag_id=dag_id, run_id="r", dag=SimpleNamespace(tasks=tasks))


@pytest.mark.airflow
@pytest.mark.parametrize("fail", [False, True])
def test_a_dag_run_is_closed_and_drawn(mlflow_client, run_dag_test, fail):
    """Through Airflow's own listener the parent run gets the DAG run's end state and its graph."""

    @dag(dag_id=f"shown_{fail}", schedule=None, start_date=datetime(2026, 1, 1))
    def pipeline():
        double(number(fail=fail))

    run = run_dag_test(pipeline())
    (listener,) = ZenPlugin.listeners
    assert listener._worker.drain(60)
    experiment = mlflow_client.get_experiment_by_name(f"airflow/shown_{fail}").experiment_id
    (parent,) = mlflow_client.search_runs([experiment], "tags.`zen.kind` = 'dag_run'")
    assert (run.state, parent.info.status) == (("failed", "FAILED") if fail else ("success", "FINISHED"))
    assert "lineage/lineage.svg" in parent.data.tags["mlflow.note.content"]
    names = {file.path for file in mlflow_client.list_artifacts(parent.info.run_id, "lineage")}
    assert names == {f"lineage/lineage.{kind}" for kind in ("svg", "html", "md", "json")}


def test_a_dag_without_steps_costs_nothing(mlflow_client, recording_worker):
    """DAG runs without a step are ignored; others are enqueued with their state."""
    listener = DagRunListener(recording_worker)
    listener.on_dag_run_success(ended_dag_run("plain", "BashOperator"), "")
    listener.on_dag_run_failed(ended_dag_run("ours", "BashOperator", "@ml_step"), "")
    assert [(run.dag_id, str(run.state)) for run in recording_worker.runs] == [("ours", "FAILED")]


def test_a_fused_group_is_a_step(mlflow_client, recording_worker):
    """A DAG run is closed too where a fused group is all that its DAG has."""

    @dag(dag_id="ours", schedule=None, start_date=datetime(2026, 1, 1))
    def ours():
        with fused("group"):
            number()

    stored = DagSerialization.from_dict(DagSerialization.to_dict(ours()))
    ended = SimpleNamespace(dag_id="ours", run_id="r", dag=stored)
    DagRunListener(recording_worker).on_dag_run_success(ended, "")
    assert [run.dag_id for run in recording_worker.runs] == ["ours"]


def test_a_new_scheduler_delivers_pending_lineage(mlflow_client, recording_worker):
    """The first DAG run that starts in a process starts the delivery of pending lineage, before any run ends."""
    DagRunListener(recording_worker).on_dag_run_running(ended_dag_run("d", "BashOperator"), "started")
    assert (recording_worker.reconciled, recording_worker.runs) == (True, [])


def test_without_mlflow_nothing_is_started(recording_worker, monkeypatch, tmp_path):
    """Without MLflow no process is started."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    listener = DagRunListener(recording_worker)
    listener.on_dag_run_running(ended_dag_run("d", "@ml_step"), "started")
    listener.on_dag_run_success(ended_dag_run("d", "@ml_step"), "")
    assert (recording_worker.reconciled, recording_worker.runs) == (False, [])


def test_a_wrong_setting_does_not_stop_the_scheduler(recording_worker, monkeypatch, caplog):
    """An invalid setting is logged, and nothing is raised."""
    monkeypatch.setenv("AIRFLOW__ZEN__LINEAGE_TRACE", "perhaps")
    DagRunListener(recording_worker).on_dag_run_success(ended_dag_run("d", "@ml_step"), "")
    assert "lineage_trace" in caplog.text


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="the function that Airflow's API calls is in Airflow 3.3")
@pytest.mark.airflow
@pytest.mark.parametrize(("mark", "status"), [("failed", "FAILED"), ("success", "FINISHED")])
def test_a_dag_run_that_is_marked_by_hand(missed_dag_run, mark, status):
    """A DAG run that a user marks in Airflow's UI has that state in MLflow."""
    ended, mlflow_statuses = missed_dag_run()
    with create_session() as session:
        run = session.query(DagRun).filter_by(dag_id=ended.dag_id, run_id=ended.run_id).one()
        dag = SerializedDagModel.get_dag(ended.dag_id, session=session)
        state = api_models.DagRunMutableStates(mark)
        api_services.patch_dag_run_state(dag=dag, dag_run=run, state=state, session=session)
    (listener,) = ZenPlugin.listeners
    assert listener._worker.drain(60)
    assert mlflow_statuses() == {"dag_run": status, "step": "FINISHED"}


@pytest.mark.airflow
def test_a_dag_run_that_times_out(missed_dag_run):
    """A DAG run that Airflow's scheduler ends for its timeout ends as FAILED in MLflow."""
    ended, mlflow_statuses = missed_dag_run()
    with create_session() as session:
        run = session.query(DagRun).filter_by(dag_id=ended.dag_id, run_id=ended.run_id).one()
        run.dag_model.relative_fileloc = "unheard.py"
        run.state, run.end_date, run.start_date = DagRunState.RUNNING, None, utcnow() - timedelta(hours=2)
        session.flush()
        SchedulerJobRunner(Job())._schedule_dag_run(run, session)
        assert run.state == DagRunState.FAILED
    (listener,) = ZenPlugin.listeners
    assert listener._worker.drain(60)
    assert mlflow_statuses() == {"dag_run": "FAILED", "step": "FINISHED"}
