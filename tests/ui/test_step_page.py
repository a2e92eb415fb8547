from datetime import datetime

import pytest
from airflow.sdk import dag

from airflow_zen import Artifact, ml_step
from airflow_zen.ui import substep_states
from airflow_zen.ui.airflow_runs import read_tasks
from tests.harness import run_dag


def test_shows_what_a_step_read_and_made(ran, answer):
    """The page has the parameters, the inputs with the steps that made them, the outputs, and who read those."""
    page = answer(f"api/dags/{ran()}/step", run_id="r1", task_id="trial", map_index=2)
    assert (page["state"], page["cache"], page["parameters"]) == ("FINISHED", "miss", {"rate": 0.3})
    (frame,) = page["inputs"]
    assert (frame["argument"], frame["producer"]["task_id"], frame["is_readable"]) == ("frame", "load", True)
    assert [output["argument"] for output in page["outputs"]] == ["output"]
    assert [key["task_id"] for key in page["consumers"]] == ["best"]
    assert "return float(len(frame)) * rate" in page["source"]


def test_shows_the_steps_of_a_fused_group(grouped, run_dag_test, answer):
    """The page of a group's task has its steps; each step and who made its inputs are found by the step's own name."""
    run = run_dag_test(grouped)
    path, query = f"api/dags/{run.dag_id}/step", {"run_id": run.run_id}
    group = answer(path, task_id="prepare", **query)
    assert [part["task_id"] for part in group["parts"]] == ["prepare.load", "prepare.trial"]
    assert (group["instance"]["task_id"], group["recorded"]) == ("prepare", False)
    part = answer(path, task_id="prepare.trial", **query)
    assert (part["instance"]["task_id"], part["recorded"], part["parts"]) == ("prepare", True, [])
    assert [key["task_id"] for key in part["producers"]] == ["prepare.load"]


def test_lists_the_records_of_a_run_once(grouped, run_dag_test, answer, store_requests, monkeypatch):
    """A page lists the records of the DAG run once, and reads the DAG once where steps share a task instance."""
    read_dags = []
    monkeypatch.setattr(substep_states, "read_tasks", lambda dag_id: read_dags.append(dag_id) or read_tasks(dag_id))
    run = run_dag_test(grouped)
    for task_id, map_index in (("prepare", -1), ("prepare.trial", -1), ("trial", 3)):
        store_requests.clear()
        read_dags.clear()
        query = {"run_id": run.run_id, "task_id": task_id, "map_index": map_index}
        answer(f"api/dags/{run.dag_id}/step", **query)
        assert (store_requests.count("list_objects"), read_dags) == (1, [run.dag_id]), task_id


def test_shows_what_a_step_used(ran, answer):
    """A computed step has its peak of memory and its processor time, in bytes and seconds; a reused one used nothing."""
    dag_id = ran("r1", rates=(0.1,))
    ran("r2", rates=(0.1,))
    used, nothing = (
        answer(f"api/dags/{dag_id}/step", run_id=run_id, task_id="load")["resources"] for run_id in ("r1", "r2")
    )
    assert used["peak_memory_bytes"] > 10_000_000
    assert 0 < used["cpu_seconds"] < 600
    assert nothing == {}


def test_explains_a_miss_in_full(ran, answer):
    """A step that was computed again names each ingredient of its key that changed, and the run it is compared with."""
    dag_id = ran("r1", rows=20)
    ran("r2", rows=21)
    diff = answer(f"api/dags/{dag_id}/step", run_id="r2", task_id="load")["key_diff"]
    assert diff["compared_with"]["run_id"] == "r1"
    (change,) = diff["changes"]
    assert change["label"] == "parameter rows"
    assert change["diff"][-2:] == ["-20", "+21"]


def test_explains_a_miss_that_is_not_among_the_latest(ran, answer):
    """Each of many mapped instances is compared with the most similar of the task's latest keys."""
    dag_id = ran(rates=[number / 10 for number in range(8)])
    diff = answer(f"api/dags/{dag_id}/step", run_id="r1", task_id="trial", map_index=0)["key_diff"]
    assert diff["compared_with"]["task_id"] == "trial"
    (change,) = diff["changes"]
    assert (change["label"], change["diff"][-1]) == ("parameter rate", "+0.0")


def test_shows_all_of_a_long_difference(ran, answer):
    """The difference of long texts has all their lines, also those far from the beginning."""
    dag_id = ran("r1", rates=(0.1,), column="x" * 30_000 + "a")
    ran("r2", rates=(0.1,), column="x" * 30_000 + "b")
    (change,) = answer(f"api/dags/{dag_id}/step", run_id="r2", task_id="load")["key_diff"]["changes"]
    assert [(line[0], line[-2:]) for line in change["diff"][-2:]] == [("-", 'a"'), ("+", 'b"')]


def test_keeps_code_from_those_who_may_not_read_it(ran, answer):
    """Without the right to read the DAG's code, neither the source of a step nor the texts behind its key are shown."""
    dag_id = ran("r1", rows=20)
    ran("r2", rows=21)
    page = answer(f"api/dags/{dag_id}/step", reads=f"{dag_id}/CODE", run_id="r2", task_id="load")
    assert (page["source"], [change["diff"] for change in page["key_diff"]["changes"]]) == ("", [[]])


def test_shows_each_try(ran, answer):
    """The latest try is shown, and an earlier one on request."""
    dag_id = ran(rates=(0.1,))
    page = answer(f"api/dags/{dag_id}/step", run_id="r1", task_id="load", try_number=1)
    assert (page["tries"], page["key"]["try_number"]) == ([1], 1)


def test_hides_content_that_another_dag_made(root, ran, answer, get):
    """Of an input whose DAG the user may not see, the name is shown, and neither its content nor its producer."""
    other = ran(rates=(0.1,))

    @ml_step
    def count(frame) -> int:
        return len(frame)

    @dag(dag_id="reader_of_others", schedule=None, start_date=datetime(2026, 1, 1))
    def reader():
        count(Artifact(f"{other}/load.train").latest())

    run_dag(reader(), run_id="r1")
    query = {"run_id": "r1", "task_id": "count"}
    content = {**query, "side": "inputs", "argument": "frame"}
    for reads, readable in ((f"reader_of_others,{other}", True), ("reader_of_others", False)):
        (frame,) = answer("api/dags/reader_of_others/step", reads=reads, **query)["inputs"]
        assert (frame["is_readable"], bool(frame["producer"])) == (readable, readable)
        found = get("api/dags/reader_of_others/artifact", reads=reads, **content)
        assert found.status_code == (200 if readable else 404)


@pytest.mark.parametrize(("sort", "first"), [("parameter:rate", 4), ("metric:loss", 0), ("map_index", 4)])
def test_sorts_the_instances_of_a_mapped_task(sort, first, ran, answer):
    """A mapped task has all its instances, sorted by a parameter, a metric or the index, in pages."""
    page = answer(
        f"api/dags/{ran()}/mapped",
        run_id="r1",
        task_id="trial",
        sort=sort,
        descending=True,
        limit=2,
        value="metric:loss",
    )
    assert (page["total"], page["states"], len(page["rows"])) == (5, {"FINISHED": 5}, 2)
    assert page["rows"][0]["map_index"] == first
    assert (page["parameter_names"], page["metric_names"]) == (["rate"], ["loss"])
    assert [round(point["value"], 1) for point in page["points"]] == [0.9, 0.8, 0.7, 0.6, 0.5]
