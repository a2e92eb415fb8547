"""Promises of `airflow zen cache list` and `clear`."""

import json
from argparse import Namespace
from datetime import datetime

import pytest
from airflow.sdk import dag

from airflow_zen import ml_step
from airflow_zen.cli.cache import clear_entries, list_entries
from airflow_zen.config.settings import open_stack
from tests.harness import run_dag


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


@ml_step
def number(x: int) -> int:
    return x


@ml_step
def double(x: int) -> int:
    if x == 13:
        raise ValueError("no luck")
    return 2 * x


def pipeline(dag_id, x=1):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1))
    def d():
        double(number(x))

    return d()


def call_command(function, **options):
    defaults = {"dag_id": None, "task_id": None, "older_than": None, "yes": False, "stack": None, "output": "json"}
    function.func(Namespace(**{**defaults, "verbose": False, **options}))


def listed_entries(capsys, **options):
    capsys.readouterr()
    call_command(list_entries, **options)
    return [(row["task"], row["computed by"]) for row in json.loads(capsys.readouterr().out)]


def test_lists_cached_results(capsys):
    """Each result is listed with the run that computed it, newest first, and filtered by DAG."""
    run_dag(pipeline("one"), run_id="a/r1")
    run_dag(pipeline("two", 2), run_id="r1")
    both = listed_entries(capsys)
    assert both[0] == ("two/double", "two/r1/double/-1/1")
    assert len(both) == 4
    assert {task for task, _ in listed_entries(capsys, dag_id="one")} == {"one/number", "one/double"}
    call_command(list_entries, dag_id="one", output="table")
    assert "one/a/r1/number/-1/1" in capsys.readouterr().out


def test_clears_one_task_and_its_history(capsys):
    """Clearing a task deletes its results and their history; the next run computes that task only."""
    run_dag(pipeline("one"), run_id="r1")
    call_command(clear_entries, dag_id="one", task_id="double", yes=True)
    assert "Deleted 1 result of 1 task;" in capsys.readouterr().out
    assert open_stack().cache.history.recent_records("one", "double") == []
    assert len(open_stack().cache.history.recent_records("one", "number")) == 1
    run_dag(pipeline("one"), run_id="r2")
    cache = {record.id.task_id: record.cache for record in open_stack().records.read_dag_run("one", "r2")}
    assert cache == {"number": "hit", "double": "miss"}


def test_clears_by_age_and_keeps_the_rest(capsys):
    """Only results older than the given age are deleted; an invalid age is refused."""
    run_dag(pipeline("one"), run_id="r1")
    call_command(clear_entries, older_than="1h", yes=True)
    assert capsys.readouterr().out.endswith("\nNothing to delete.\n")
    assert len(listed_entries(capsys)) == 2
    with pytest.raises(SystemExit, match="'a week'"):
        call_command(clear_entries, older_than="a week", yes=True)


def test_asks_before_it_clears(capsys):
    """Without --yes and without a terminal nothing is deleted, and the command says what it would delete."""
    run_dag(pipeline("one"), run_id="r1")
    with pytest.raises(SystemExit, match=r"Delete 2 results of 2 tasks(.|\n)*--yes"):
        call_command(clear_entries)
    assert len(listed_entries(capsys)) == 2
