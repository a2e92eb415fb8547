"""Promises of `airflow_zen.runs.records`."""

import pytest

from airflow_zen.errors import ArtifactNotFound
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport


@pytest.fixture
def transport(tmp_path):
    return open_transport(str(tmp_path / "root"), {})


@pytest.fixture
def records(transport):
    return StepRunRecords(transport)


def run(task="load", map_index=-1, try_number=1, run_id="scheduled__2024-01-01T00:00:00+00:00", **facts):
    return StepRun(StepRunId("d", run_id, task, map_index, try_number), StepState.FINISHED, **facts)


def test_a_record_comes_back_equal(records, ref):
    """A record that is written is read back equal, with refs and unicode."""
    put = run(parameters={"ä": [1, None]}, inputs={"f": ref("d/x")}, summaries={"a" * 64: {"rows": 1}}, error="ü")
    records.put(put, delivered=True)
    assert records.get(put.id) == put


def test_the_layout_is_public(transport, records):
    """Records are stored under runs/<dag>/<run>/steps/<task>/<map index>.<try>.json, each part percent-quoted."""
    records.put(run("group.load", 3, 2), delivered=True)
    run_folder = "scheduled__2024-01-01T00%3A00%3A00%2B00%3A00"
    assert list(transport.list("runs")) == [f"runs/d/{run_folder}/steps/group.load/3.2.json"]
    assert list(transport.list("undelivered")) == []


def test_all_records_of_a_dag_run(records):
    """All tries of all tasks of one DAG run are found, and none of another."""
    for other in (run("a"), run("b", 0), run("b", 1, 2), run("a", run_id="other")):
        records.put(other, delivered=True)
    found = list(records.read_dag_run("d", "scheduled__2024-01-01T00:00:00+00:00"))
    assert [(r.id.task_id, r.id.map_index, r.id.try_number) for r in found] == [("a", -1, 1), ("b", 0, 1), ("b", 1, 2)]


def test_undelivered_records_are_found_until_delivered(records):
    """A record is undelivered until it is marked as delivered; marking it twice is not an error."""
    records.put(run("a"), delivered=True)
    records.put(run("b.c", 1, 3), delivered=False)
    assert [owed.id.task_id for owed in records.undelivered()] == ["b.c"]
    for _ in range(2):
        records.mark_delivered(run("b.c", 1, 3).id)
    assert list(records.undelivered()) == []


def test_a_missing_record(records):
    """Reading a step run that was never recorded raises `ArtifactNotFound`."""
    with pytest.raises(ArtifactNotFound):
        records.get(run().id)


@pytest.mark.parametrize("name", ["..", "a/b", "日" * 250, "é" * 100])
def test_any_name_is_one_folder(records, transport, name):
    """Names with dots or slashes, in any script and of any length, stay inside the root and are found again."""
    named = StepRun(StepRunId(name, name, "t"), StepState.FINISHED)
    records.put(named, delivered=False)
    assert list(records.read_dag_run(name, name)) == list(records.undelivered()) == [named]
    assert all(len(key.split("/")) == 6 for key in transport.list("runs"))


def test_unknown_keys_are_ignored():
    """A record of a newer version, with a key that this one does not know, is read without it."""
    written = run(cache=CacheState.HIT)
    assert StepRun.from_json({**written.to_json(), "later": 1}) == written


@pytest.mark.parametrize(("key", "value"), [("cache", "perhaps"), ("state", "ASLEEP"), ("started", "yesterday")])
def test_malformed_records_are_refused(key, value):
    """A record with a value that its field cannot have raises `ValueError`."""
    with pytest.raises(ValueError, match=key):
        StepRun.from_json({**run().to_json(), key: value})
