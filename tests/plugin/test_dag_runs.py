"""Promises of the listener: a DAG run is closed and drawn in MLflow when it ends, in whatever process that is."""

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.api_fastapi.core_api.datamodels.dag_run import DagRunMutableStates
from airflow.api_fastapi.core_api.services.public.dag_run import patch_dag_run_state
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import dag
from airflow.sdk.timezone import utcnow
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from mlflow import MlflowClient

from airflow_zen import ml_step
from airflow_zen.plugin import ZenPlugin
from airflow_zen.plugin.dag_runs import DagRunListener
from airflow_zen.plugin.follower import Follower


@ml_step
def number(fail: bool = False) -> int:
    if fail:
        raise ValueError("no number today")
    return 42


@ml_step
def double(value: int) -> int:
    return 2 * value


@pytest.fixture
def configured(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    return MlflowClient(server.uri)


@pytest.fixture
def told():
    """A follower that only notes what it is told."""

    class Noting(Follower):
        def __init__(self):
            self.runs = []

        def follow(self, run):
            self.runs.append(run)

        looked = False

        def look(self):
            self.looked = True

    return Noting()


def finished(dag_id, *task_types):
    tasks = [SimpleNamespace(task_type=kind) for kind in task_types]
    return SimpleNamespace(dag_id=dag_id, run_id="r", dag=SimpleNamespace(tasks=tasks))


@pytest.mark.airflow
@pytest.mark.parametrize("fail", [False, True])
def test_a_dag_run_is_closed_and_drawn(configured, run_dag, fail):
    """Through Airflow's own listener the parent run gets the DAG run's end state and its graph."""

    @dag(dag_id=f"shown_{fail}", schedule=None, start_date=datetime(2026, 1, 1))
    def pipeline():
        double(number(fail=fail))

    run = run_dag(pipeline())
    (listener,) = ZenPlugin.listeners
    assert listener._follower.settle(60)
    experiment = configured.get_experiment_by_name(f"airflow/shown_{fail}").experiment_id
    (parent,) = configured.search_runs([experiment], "tags.`zen.kind` = 'dag_run'")
    assert (run.state, parent.info.status) == (("failed", "FAILED") if fail else ("success", "FINISHED"))
    assert "lineage/lineage.svg" in parent.data.tags["mlflow.note.content"]
    names = {file.path for file in configured.list_artifacts(parent.info.run_id, "lineage")}
    assert names == {f"lineage/lineage.{kind}" for kind in ("svg", "html", "md", "json")}


def test_a_dag_without_steps_costs_nothing(configured, told):
    """DAG runs that hold no step are none of our business; others are followed with their state."""
    listener = DagRunListener(told)
    listener.on_dag_run_success(finished("plain", "BashOperator"), "")
    listener.on_dag_run_failed(finished("ours", "BashOperator", "@ml_step"), "")
    assert [(run.dag_id, str(run.state)) for run in told.runs] == [("ours", "FAILED")]


def test_a_new_scheduler_takes_up_what_is_owed(configured, told):
    """The first DAG run that starts in a process has what is owed from before delivered, and needs no end for it."""
    DagRunListener(told).on_dag_run_running(finished("d", "BashOperator"), "started")
    assert (told.looked, told.runs) == (True, [])


def test_without_mlflow_nothing_is_started(told, monkeypatch, tmp_path):
    """Where no MLflow is configured no process is started."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    listener = DagRunListener(told)
    listener.on_dag_run_running(finished("d", "@ml_step"), "started")
    listener.on_dag_run_success(finished("d", "@ml_step"), "")
    assert (told.looked, told.runs) == (False, [])


def test_a_wrong_setting_does_not_stop_the_scheduler(told, monkeypatch, caplog):
    """A setting that cannot be read is told in the log, and nothing is raised."""
    monkeypatch.setenv("AIRFLOW__ZEN__LINEAGE_TRACE", "perhaps")
    DagRunListener(told).on_dag_run_success(finished("d", "@ml_step"), "")
    assert "lineage_trace" in caplog.text


@pytest.mark.airflow
@pytest.mark.parametrize(("mark", "status"), [("failed", "FAILED"), ("success", "FINISHED")])
def test_a_dag_run_that_is_marked_by_hand(unheard, mark, status):
    """What a person in Airflow's UI says of a DAG run is how it ends in MLflow."""
    ended, shown = unheard()
    with create_session() as session:
        run = session.query(DagRun).filter_by(dag_id=ended.dag_id, run_id=ended.run_id).one()
        dag = SerializedDagModel.get_dag(ended.dag_id, session=session)
        patch_dag_run_state(dag=dag, dag_run=run, state=DagRunMutableStates(mark), session=session)
    (listener,) = ZenPlugin.listeners
    assert listener._follower.settle(60)
    assert shown() == {"dag_run": status, "step": "FINISHED"}


@pytest.mark.airflow
def test_a_dag_run_that_takes_too_long(unheard):
    """A DAG run that Airflow's scheduler ends for its timeout ends as FAILED in MLflow."""
    ended, shown = unheard()
    with create_session() as session:
        run = session.query(DagRun).filter_by(dag_id=ended.dag_id, run_id=ended.run_id).one()
        run.dag_model.relative_fileloc = "unheard.py"
        run.state, run.end_date, run.start_date = DagRunState.RUNNING, None, utcnow() - timedelta(hours=2)
        session.flush()
        SchedulerJobRunner(Job())._schedule_dag_run(run, session)
        assert run.state == DagRunState.FAILED
    (listener,) = ZenPlugin.listeners
    assert listener._follower.settle(60)
    assert shown() == {"dag_run": "FAILED", "step": "FINISHED"}
