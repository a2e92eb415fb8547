"""Promises of `airflow_zen.runs.records`."""

import pytest

from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound
from airflow_zen.runs.records import StepRunRecords, record_key
from airflow_zen.runs.step_run import CacheState, FinishedDagRun, StepRun, StepRunId, StepState
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


UNREADABLE = {"empty": b"", "half": b'{"id":', "a list": b"[]", "deep": b"[" * 100_000, "another": b'{"id": 1}'}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_record_is_set_aside(transport, records, caplog, content):
    """A record that cannot be read keeps no other from delivery; it is named, and set aside until it is asked for."""
    damaged = run("a")
    records.put(damaged, delivered=False)
    transport.write(record_key(damaged.id), content)
    records.put(run("b"), delivered=False)
    transport.write("undelivered/.DS_Store", b"x")
    assert [each.id.task_id for each in records.undelivered()] == ["b"]
    assert f"{transport.root}/{record_key(damaged.id)} cannot be read" in caplog.text
    caplog.clear()
    assert [each.id.task_id for each in records.undelivered()] == ["b"]
    assert not caplog.text
    records.put(damaged, delivered=True)
    records.requeue_rejected()
    assert [each.id.task_id for each in records.undelivered()] == ["a", "b"]


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_record_is_left_out(transport, records, content):
    """A DAG run is read without the records that cannot be read; asked for one by name, the error names its file."""
    damaged = run("a", 0)
    records.put(damaged, delivered=True)
    transport.write(record_key(damaged.id), content)
    for stray in ("runs/x", "runs/.DS_Store", "runs/d/y", "runs/d/r/steps/.DS_Store"):
        transport.write(stray, b"x")
    records.put(run("b"), delivered=True)
    assert [each.id.task_id for each in records.read_dag_run("d", damaged.id.run_id)] == ["b"]
    assert records.latest_dag_run("d") == damaged.id.run_id
    with pytest.raises(ArtifactCorrupt, match="0.1.json cannot be read") as raised:
        records.get(damaged.id)
    assert len(str(raised.value)) < 1000


def test_unreadable_ends_of_dag_runs(transport, records, caplog):
    """The end of a DAG run that cannot be read is deleted, and named; the others are read."""
    records.put_finished_dag_run(FinishedDagRun("d", "b", StepState.FINISHED, 1.0))
    transport.write("ended/d/a.json", b"")
    assert [each.run_id for each in records.finished_dag_runs()] == ["b"]
    assert "ended/d/a.json cannot be read" in caplog.text
    assert list(transport.list("ended")) == ["ended/d/b.json"]
