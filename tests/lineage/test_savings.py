"""Promises of `airflow_zen.lineage.savings`."""

import json

import pytest
from msgspec.structs import replace

from airflow_zen.lineage.savings import (
    RunTotals,
    RunTotalsReader,
    savings_summary,
    sum_totals,
    totals_of_dag_run,
)
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport


def step(
    task, cache=CacheState.MISS, took=10.0, state=StepState.FINISHED, run="r", dag="d", n=1, index=-1, seconds=None
):
    """A finished step run that took `took` seconds, or reused what had taken `seconds`."""
    seconds = took if seconds is None else seconds
    return StepRun(StepRunId(dag, run, task, index, n), state, 100.0, 100.0 + took, cache=cache, seconds=seconds)


def test_time_saved_excludes_the_reuse():
    """A hit saves the time of the computed step minus its own, and never less than zero."""
    assert step("a", CacheState.HIT, took=0.5, seconds=60.5).seconds_saved == 60
    assert step("a", CacheState.HIT, took=2, seconds=1).seconds_saved == 0
    assert step("a", CacheState.MISS).seconds_saved == 0


def test_totals_count_steps_by_outcome():
    """Of the tries of a task the last one counts, and each mapped step counts."""
    records = [
        step("a", CacheState.HIT, took=1, seconds=31),
        step("b", state=StepState.FAILED),
        step("b", n=2, took=20),
        step("m", CacheState.OFF, index=0, took=5),
        step("m", index=1, state=StepState.KILLED),
    ]
    assert totals_of_dag_run("d", "r", records) == RunTotals("d", "r", 120.0, 1, 0, 1, 2, 1, 25.0, 30.0)


def test_a_run_is_reused_when_every_step_was():
    """A DAG run is reused when all its steps are hits."""
    hits = [step("a", CacheState.HIT), step("b", CacheState.HIT)]
    assert totals_of_dag_run("d", "r", hits).runs_reused == 1
    assert totals_of_dag_run("d", "r", [*hits, step("c")]).runs_reused == 0
    assert totals_of_dag_run("d", "r", []).runs_reused == 0


def test_totals_add_up():
    """Several runs are summed, under the DAG's name where it is one DAG."""
    a, b = (
        totals_of_dag_run("d", "r1", [step("a", CacheState.HIT, took=1, seconds=11)]),
        totals_of_dag_run("d", "r2", [step("a")]),
    )
    assert sum_totals([a, b]) == RunTotals("d", "", 110.0, 2, 1, 1, 1, 0, 10.0, 10.0)
    assert sum_totals([a, replace(b, dag_id="e")]).dag_id == ""
    assert sum_totals([]).runs == 0


@pytest.fixture
def transport(tmp_path):
    return open_transport(str(tmp_path), {})


def test_runs_are_found_by_dag_or_all(transport):
    """The totals of one DAG, or of all, come from the records in the store."""
    records = StepRunRecords(transport)
    for dag in ("d/1", "e"):
        for run in ("r 1", "r 2"):
            records.put(step("a", dag=dag, run=run), delivered=True)
    assert {(t.dag_id, t.run_id) for t in RunTotalsReader(transport).read("d/1")} == {("d/1", "r 1"), ("d/1", "r 2")}
    assert len(list(RunTotalsReader(transport).read())) == 4
    assert [(t.dag_id, t.run_id) for t in RunTotalsReader(transport).read("e", {"r 2", "r 9"})] == [("e", "r 2")]


def test_a_run_that_was_summed_is_not_read_again(transport, monkeypatch):
    """Totals are stored with the number of records, and computed again when there are more, or for damaged totals."""
    records = StepRunRecords(transport)
    for index in range(5):
        records.put(step("m", index=index), delivered=True)
    (first,) = RunTotalsReader(transport).read("d")
    read = []
    original = transport.read
    monkeypatch.setattr(transport, "read", lambda key: (read.append(key), original(key))[1])
    assert list(RunTotalsReader(transport).read("d")) == [first]
    assert read == ["runs/d/r/totals.json"]
    records.put(step("m", index=5), delivered=True)
    assert [t.computed for t in RunTotalsReader(transport).read("d")] == [6]
    assert json.loads(original("runs/d/r/totals.json"))["records"] == 6
    transport.write("runs/d/r/totals.json", b"{")
    assert [t.computed for t in RunTotalsReader(transport).read("d")] == [6]


def test_the_summary_of_a_year():
    """The summary is one readable line."""
    year = [
        RunTotals("d", str(n), runs=1, runs_reused=int(n < 351), seconds_saved=63.6 * (n < 351)) for n in range(365)
    ]
    assert savings_summary(year, "partitions") == "365 partitions: 351 reused, 14 run, 6.2 h saved"
