"""Promises of `airflow_zen.plugin.unheard`: a DAG run ends in MLflow although nobody was there when it ended."""

import os
import subprocess
import sys
from argparse import Namespace

import pytest
from airflow.api.common.delete_dag import delete_dag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session

from airflow_zen.cli import lineage
from airflow_zen.plugin.follow_up import follow_up
from airflow_zen.settings import open_stack

pytestmark = [pytest.mark.server, pytest.mark.airflow]


@pytest.mark.parametrize(("fail", "state"), [(False, "FINISHED"), (True, "FAILED")])
def test_the_scheduler_was_killed(unheard, fail, state):
    """The first process that a new scheduler starts closes what ended when there was none, as Airflow says it ended."""
    _, shown = unheard(fail)
    assert follow_up(open_stack(), [], catch_up=True)
    assert shown() == {"dag_run": state, "step": state}


def test_a_dag_run_was_deleted(unheard):
    """A DAG run that was deleted in Airflow ends as KILLED, as nobody will say otherwise any more."""
    ended, shown = unheard()
    _delete(ended)
    assert follow_up(open_stack(), [], catch_up=True)
    assert shown() == {"dag_run": "KILLED", "step": "FINISHED"}


def test_a_dag_was_deleted(unheard):
    """A DAG run whose whole DAG was deleted in Airflow ends as KILLED too."""
    ended, shown = unheard()
    delete_dag(ended.dag_id)
    assert follow_up(open_stack(), [], catch_up=True)
    assert shown() == {"dag_run": "KILLED", "step": "FINISHED"}


def test_the_command_closes_it(unheard, capsys):
    """`airflow zen lineage sync` closes it too."""
    _, shown = unheard()
    lineage.sync(Namespace(stack=None, verbose=False))
    assert shown()["dag_run"] == "FINISHED"


def test_a_dag_run_that_goes_on(unheard):
    """What Airflow calls running stays so in MLflow."""
    ended, shown = unheard()
    with create_session() as session:
        run = session.query(DagRun).filter_by(dag_id=ended.dag_id, run_id=ended.run_id).one()
        run.state, run.end_date = "running", None
    assert follow_up(open_stack(), [], catch_up=True)
    assert shown()["dag_run"] == "RUNNING"


def test_another_deployments_dag_run(unheard, tmp_path, monkeypatch):
    """A DAG run that left nothing in our store is another deployment's on the same MLflow, and left alone."""
    ended, shown = unheard()
    _delete(ended)
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "other"))
    assert follow_up(open_stack(), [], catch_up=True)
    assert shown()["dag_run"] == "RUNNING"


def test_another_airflow_on_the_same_root(unheard, tmp_path):
    """An Airflow with a database of its own leaves a DAG run alone that is going on in another, with one root and MLflow."""
    ended, shown = unheard()
    home = tmp_path / "other-airflow"
    other = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    }
    for command, given in (("airflow db migrate", ""), ("airflow_zen.plugin.follow_up --catch-up", "[]")):
        words = [sys.executable, "-m", *command.split()]
        done = subprocess.run(words, env=other, input=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert shown()["dag_run"] == "RUNNING"
    _delete(ended)
    assert follow_up(open_stack(), [], catch_up=True)
    assert shown()["dag_run"] == "KILLED"


def _delete(ended):
    with create_session() as session:
        session.delete(session.query(DagRun).filter_by(dag_id=ended.dag_id, run_id=ended.run_id).one())
