"""Promises of `airflow zen cache stats`."""

import json
import re
from argparse import Namespace
from datetime import datetime
from pathlib import PurePath

import pytest
from airflow.sdk import dag
from msgspec.structs import replace

from airflow_zen import ml_step
from airflow_zen.cli import cache
from airflow_zen.config.settings import open_stack
from airflow_zen.plugin import database as backfills
from tests.harness import run_dag


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


def call_stats(dag_id=None, by="dag", backfill=None, output="table"):
    cache.show_savings.func(
        Namespace(dag_id=dag_id, by=by, backfill=backfill, output=output, stack=None, verbose=False)
    )


def pipeline(dag_id, days):
    @ml_step
    def work(day: int) -> int:
        return day

    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1))
    def d():
        work.expand(day=days)

    return d()


def set_cached_seconds(seconds):
    """Set the duration of every cached result."""
    cache = open_stack().cache
    for key in list(cache.transport.list("cache")):
        if entry := cache.get(PurePath(key).stem):
            cache.put(replace(entry, seconds=seconds))


def test_shows_savings(capsys):
    """Steps, hits and the seconds they saved are summed by DAG, week or run, as a table or as JSON."""
    run_dag(pipeline("one", [1, 2]), run_id="r1")
    set_cached_seconds(60.0)
    run_dag(pipeline("one", [1, 2, 3]), run_id="r2")
    run_dag(pipeline("two", [1]), run_id="r1")
    capsys.readouterr()
    call_stats(output="json")
    (one, two) = json.loads(capsys.readouterr().out)
    assert (one["dag"], one["runs"], one["steps"], one["reused"], one["computed"]) == ("one", "2", "5", "2", "3")
    # Two minutes less what the reuse took: on no machine a minute.
    assert 60 < float(one["seconds saved"]) <= 120
    assert (two["dag"], two["reused"]) == ("two", "1")
    call_stats("one", by="run", output="json")
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == ["r1", "r2"]
    call_stats("two", by="week")
    told = capsys.readouterr().out
    assert "-W" in told
    assert re.search(r"1 DAG runs: 1 reused, 0 run, \d", told)


def test_shows_savings_of_a_backfill(capsys, monkeypatch):
    """Only the backfill's runs count, and the last line contains the number of reused partitions."""
    run_dag(pipeline("one", [1]), run_id="r0")
    run_dag(pipeline("one", [1]), run_id="r1")
    run_dag(pipeline("one", [2]), run_id="r2")
    monkeypatch.setattr(
        backfills, "backfill_run_states", lambda number: {("one", "r1"), ("one", "r2")} if number == 7 else set()
    )
    call_stats("one", backfill=7)
    assert re.search(r"2 partitions: 1 reused, 1 run, \d", capsys.readouterr().out)


def test_no_step_runs():
    """Without step runs there is nothing to sum up."""
    with pytest.raises(SystemExit, match="No step run"):
        call_stats()
