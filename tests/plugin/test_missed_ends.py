"""Promises of `airflow_zen.plugin.finalize`: a DAG run ends in MLflow although nobody was there when it ended."""

import os
import subprocess
import sys
from argparse import Namespace

import msgspec
import pytest
from airflow.api.common.delete_dag import delete_dag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session

from airflow_zen.cli import lineage
from airflow_zen.config.settings import open_stack
from airflow_zen.plugin.finalize import finalize_dag_runs
from airflow_zen.plugin.worker import FinalizeRequest, find_all_stacks
from tests.airflow_version import AIRFLOW_VERSION

pytestmark = [pytest.mark.server, pytest.mark.airflow]


@pytest.mark.parametrize(("fail", "state"), [(False, "FINISHED"), (True, "FAILED")])
def test_the_scheduler_was_killed(missed_dag_run, fail, state):
    """The first process of a new scheduler closes DAG runs that ended without one, with Airflow's state."""
    _, mlflow_statuses = missed_dag_run(fail)
    assert finalize_dag_runs(open_stack(), [], catch_up=True)
    assert mlflow_statuses() == {"dag_run": state, "step": state}


def test_a_dag_run_was_deleted(missed_dag_run):
    """A DAG run that was deleted in Airflow ends as KILLED."""
    ended, mlflow_statuses = missed_dag_run()
    _delete(ended)
    assert finalize_dag_runs(open_stack(), [], catch_up=True)
    assert mlflow_statuses() == {"dag_run": "KILLED", "step": "FINISHED"}


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 2), reason="Airflow 3.1 keeps nothing of a DAG that was deleted")
def test_a_dag_was_deleted(missed_dag_run):
    """A DAG run whose whole DAG was deleted in Airflow ends as KILLED too."""
    ended, mlflow_statuses = missed_dag_run()
    delete_dag(ended.dag_id)
    assert finalize_dag_runs(open_stack(), [], catch_up=True)
    assert mlflow_statuses() == {"dag_run": "KILLED", "step": "FINISHED"}


def test_the_command_closes_it(missed_dag_run, capsys):
    """`airflow zen lineage sync` closes a missed DAG run too."""
    _, mlflow_statuses = missed_dag_run()
    lineage.sync_lineage.func(Namespace(stack=None, verbose=False))
    assert mlflow_statuses()["dag_run"] == "FINISHED"


def test_a_dag_run_that_is_still_running(missed_dag_run):
    """A DAG run that is running in Airflow stays running in MLflow."""
    ended, mlflow_statuses = missed_dag_run()
    with create_session() as session:
        run = session.query(DagRun).filter_by(dag_id=ended.dag_id, run_id=ended.run_id).one()
        run.state, run.end_date = "running", None
    assert finalize_dag_runs(open_stack(), [], catch_up=True)
    assert mlflow_statuses()["dag_run"] == "RUNNING"


def test_another_deployments_dag_run(missed_dag_run, tmp_path, monkeypatch):
    """A DAG run without records in our store belongs to another deployment with the same MLflow, and is not closed."""
    ended, mlflow_statuses = missed_dag_run()
    _delete(ended)
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "other"))
    assert finalize_dag_runs(open_stack(), [], catch_up=True)
    assert mlflow_statuses()["dag_run"] == "RUNNING"


def test_another_airflow_on_the_same_root(missed_dag_run, new_airflow_db, tmp_path):
    """An Airflow does not close a running DAG run of another Airflow with the same root and MLflow."""
    ended, mlflow_statuses = missed_dag_run()
    home = tmp_path / "other-airflow"
    other = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": new_airflow_db(home / "airflow.db"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    }
    command = [sys.executable, "-m", "airflow_zen.plugin.finalize", "--catch-up"]
    request = msgspec.json.encode(FinalizeRequest(stacks=find_all_stacks()))
    done = subprocess.run(command, env=other, input=request, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert mlflow_statuses()["dag_run"] == "RUNNING"
    _delete(ended)
    assert finalize_dag_runs(open_stack(), [], catch_up=True)
    assert mlflow_statuses()["dag_run"] == "KILLED"


def _delete(ended):
    with create_session() as session:
        session.delete(session.query(DagRun).filter_by(dag_id=ended.dag_id, run_id=ended.run_id).one())
