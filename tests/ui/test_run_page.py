import shutil
from collections import Counter
from datetime import datetime
from urllib.parse import unquote

import msgspec
import pytest
from airflow.models import TaskInstance
from airflow.sdk import dag
from airflow.utils.session import create_session
from sqlalchemy import update

from airflow_zen import fused
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.lineage.mlflow.parent_runs import ParentRun, _claim_key
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from tests.ui.conftest import best, load, trial

# Nothing answers there.
_MLFLOW = "http://127.0.0.1:9"


def states(page):
    return {row["task_id"]: (row["state"], row["cache"]) for row in page["steps"]}


def test_shows_steps_and_their_artifacts(ran, answer):
    """The page has each step with its verdict and outputs, and the flow between steps and artifacts; mapped ones are one."""
    page = answer(f"api/dags/{ran()}/run", run_id="r1")
    assert states(page) == dict.fromkeys(("load", "trial", "best"), ("FINISHED", "miss"))
    rows = {row["task_id"]: row for row in page["steps"]}
    assert (rows["trial"]["count"], rows["trial"]["states"]) == (5, {"FINISHED": 5})
    assert [output["shape"] for output in rows["load"]["outputs"]] == ["20 rows × 2 columns", "2 rows × 2 columns"]
    nodes = {node["id"]: node for node in page["nodes"]}
    train = next(name for name, node in nodes.items() if node["label"] == "load.train")
    flow = {(edge["source"], edge["target"]) for edge in page["edges"]}
    assert {("step:load:-1", train), (train, "steps:trial")} <= flow
    assert nodes["steps:trial"]["can_expand"]


def test_sends_numbers_for_the_page_to_format(ran, answer):
    """The time of a step and the size of an artifact are numbers: the reader's language decides how they are written."""
    page = answer(f"api/dags/{ran()}/run", run_id="r1")
    nodes = {(node["kind"], node["label"]): node for node in page["nodes"]}
    load, train, trials = (nodes[key] for key in (("step", "load"), ("artifact", "load.train"), ("step", "trial × 5")))
    output = page["steps"][0]["outputs"][0]
    assert (train["size"], load["seconds"]) == (output["size"], page["steps"][0]["seconds"])
    assert trials["seconds"] == pytest.approx(page["steps"][1]["seconds"])
    assert not {"time", "size", "states"} & {name for node in page["nodes"] for name in node["facts"]}


def test_expands_a_mapped_task(ran, answer):
    """A folded task that is asked for is shown instance by instance."""
    page = answer(f"api/dags/{ran()}/run", run_id="r1", expand="trial")
    shown = [node["map_index"] for node in page["nodes"] if node["task_id"] == "trial"]
    assert sorted(shown) == [0, 1, 2, 3, 4]


def test_names_the_run_of_a_reused_result(ran, answer):
    """A reused step is shown as cached, with the run that computed it and the time it saved."""
    dag_id = ran("r1")
    ran("r2")
    load = answer(f"api/dags/{dag_id}/run", run_id="r2")["steps"][0]
    assert (load["state"], load["cache"], load["origin"]["run_id"]) == ("CACHED", "hit", "r1")
    assert load["seconds_saved"] >= 0


def test_shows_steps_that_have_not_run(pipeline, run_dag_test, answer):
    """A step without a record has the state that Airflow gives it, and a dashed line from the step before it."""
    run = run_dag_test(pipeline(rates=(0.1, -1.0)))
    page = answer(f"api/dags/{run.dag_id}/run", run_id=run.run_id)
    assert (page["state"], page["live"]) == ("failed", False)
    assert states(page)["best"] == ("UPSTREAM_FAILED", "")
    trial = next(row for row in page["steps"] if row["task_id"] == "trial")
    assert (trial["states"], trial["error"]) == ({"FINISHED": 1, "FAILED": 1}, "ValueError: a negative rate")
    order = {(edge["source"], edge["target"]) for edge in page["edges"] if edge["kind"] == "order"}
    assert ("step:trial:0", "step:best:-1") in order


@pytest.fixture
def recorded(root, ran):
    """A DAG run whose parent run in MLflow is named in the store, as a recorder leaves it; MLflow itself is not up."""
    dag_id = ran(rates=(0.1, 0.2, 0.3, 0.4))
    rest = MlflowRest(TrackingServer(uri=_MLFLOW))
    records = open_stack(Settings.read()).store.transport
    records.write(_claim_key(dag_id, "r1", rest), msgspec.json.encode(ParentRun("7", "abc", "")))
    return dag_id


def test_links_to_mlflow(recorded, answer, monkeypatch):
    """The DAG run, its steps and its artifacts have links to MLflow, which is not asked for them."""
    assert answer(f"api/dags/{recorded}/run", run_id="r1")["mlflow_url"] == ""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", _MLFLOW)
    page = answer(f"api/dags/{recorded}/run", run_id="r1")
    assert page["mlflow_url"].startswith(f"{_MLFLOW}/#/experiments/7/runs/abc?")
    urls = {node["id"]: unquote(node["url"]) for node in page["nodes"]}
    assert f'tags."zen.key" = "{recorded}/r1/load/-1/1"' in urls["step:load:-1"]
    assert 'tags."zen.task_id" = "trial"' in urls["steps:trial"]
    assert all(url.startswith(f"{_MLFLOW}/#/experiments/7/runs") for url in urls.values() if url)
    query = {"run_id": "r1", "task_id": "load", "side": "outputs", "argument": "train"}
    artifact = answer(f"api/dags/{recorded}/artifact", **query)["artifact"]
    assert "dataset.digest" in unquote(artifact["mlflow_url"])


def test_has_no_links_that_cannot_be_read(recorded, answer, monkeypatch):
    """A damaged document in the store costs a page its links to MLflow, and nothing else."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", _MLFLOW)
    key = _claim_key(recorded, "r1", MlflowRest(TrackingServer(uri=_MLFLOW)))
    open_stack(Settings.read(), lineage=False).store.transport.write(key, b"{damaged")
    page = answer(f"api/dags/{recorded}/run", run_id="r1")
    assert (page["mlflow_url"], {node["url"] for node in page["nodes"]}) == ("", {""})


def test_refuses_a_run_that_does_not_exist(ran, get):
    """A run that neither Airflow nor the store knows is not found."""
    assert get(f"api/dags/{ran()}/run", run_id="none").status_code == 404


def test_shows_what_steps_used(ran, answer):
    """The table of steps has what each used; of a mapped step the largest memory, and the sum of the processor time."""
    dag_id = ran(rates=(0.1, 0.2))
    rows = {row["task_id"]: row["resources"] for row in answer(f"api/dags/{dag_id}/run", run_id="r1")["steps"]}
    query = {"run_id": "r1", "task_id": "trial"}
    parts = [answer(f"api/dags/{dag_id}/step", **query, map_index=index)["resources"] for index in (0, 1)]
    assert rows["load"]["peak_memory_bytes"] > 10_000_000
    assert rows["trial"]["peak_memory_bytes"] == max(part["peak_memory_bytes"] for part in parts)
    # The processor time of a brief step is less than the tick in which it is counted.
    used = sum(part.get("cpu_seconds", 0.0) for part in parts)
    assert rows["trial"].get("cpu_seconds", 0.0) == pytest.approx(used)


@pytest.mark.parametrize("rates", [(0.1,), tuple(number / 50 for number in range(50))])
def test_reads_each_record_once(rates, ran, answer, store_requests):
    """A page reads the record of each step run once, with one list and one look for the run; the next page reads none again."""
    dag_id = ran(rates=rates)
    for expected in ({"first_key": 1, "list_objects": 1, "read": len(rates) + 2}, {"first_key": 1, "list_objects": 1}):
        store_requests.clear()
        answer(f"api/dags/{dag_id}/run", run_id="r1")
        assert Counter(store_requests) == expected


def test_shows_the_elements_of_a_step_that_runs_in_batches(grouped, run_dag_test, answer):
    """Of a step in batches the pages have its elements, each with its own index, and say that these are not Airflow's."""
    run = run_dag_test(grouped)
    path, query = f"api/dags/{run.dag_id}", {"run_id": run.run_id}
    row = next(row for row in answer(f"{path}/run", **query)["steps"] if row["task_id"] == "trial")
    assert (row["count"], row["states"], row["in_batches"]) == (5, {"FINISHED": 5}, True)
    page = answer(f"{path}/mapped", task_id="trial", **query)
    assert ([each["parameters"]["rate"] for each in page["rows"]], page["in_batches"]) == (
        [0.1, 0.2, 0.3, 0.4, 0.5],
        True,
    )
    element = answer(f"{path}/step", task_id="trial", map_index=4, **query)
    assert (element["in_batches"], element["instance"]) == (True, None)


def test_shows_a_group_until_its_first_step_has_a_record(root, run_dag_test, answer):
    """A fused group that has not run is one step, and comes after the last step of the group before it; one that has run is its steps."""

    @dag(dag_id="pages_of_groups", schedule=None, start_date=datetime(2026, 1, 1))
    def groups():
        with fused("first"):
            train, _ = load(5)
            failed = trial(train, -1.0)
        with fused("second"):
            best([failed])

    run = run_dag_test(groups())
    page = answer(f"api/dags/{run.dag_id}/run", run_id=run.run_id)
    order = [(edge["source"], edge["target"]) for edge in page["edges"] if edge["kind"] == "order"]
    assert order == [("step:first.trial:-1", "step:second:-1")]
    assert states(page) == {
        "first.load": ("FINISHED", "miss"),
        "first.trial": ("FAILED", "miss"),
        "second": ("UPSTREAM_FAILED", ""),
    }


def test_shows_the_steps_of_a_group_and_the_elements_of_a_batch_while_they_run(grouped, run_dag_test, answer, root):
    """Steps that share a task instance have states and pages of their own before they have a record of its try."""
    run = run_dag_test(grouped)
    path, query = f"api/dags/{run.dag_id}", {"run_id": run.run_id}
    _set_tasks(run, "prepare", state="running", try_number=2)
    _set_tasks(run, "trial", state="failed", map_index=1)
    (record,) = root.glob("runs/*/*/steps/trial/3.1.json")
    record.unlink()

    page = answer(f"{path}/run", **query)
    assert states(page)["prepare.load"] == ("RUNNING", "miss")
    assert states(page)["prepare.trial"] == ("PENDING", "miss")
    assert next(row["states"] for row in page["steps"] if row["task_id"] == "trial") == {"FINISHED": 4, "FAILED": 1}
    mapped = answer(f"{path}/mapped", task_id="trial", **query)
    assert [(row["map_index"], row["state"]) for row in mapped["rows"]][2:] == [
        (2, "FINISHED"),
        (3, "FAILED"),
        (4, "FINISHED"),
    ]
    element = answer(f"{path}/step", task_id="trial", map_index=3, **query)
    assert (element["state"], element["recorded"], element["instance"]) == ("FAILED", False, None)

    shutil.rmtree(record.parents[1] / "prepare.trial")
    part = answer(f"{path}/step", task_id="prepare.trial", **query)
    assert (part["state"], part["live"], part["recorded"], part["instance"]["task_id"]) == (
        "PENDING",
        True,
        False,
        "prepare",
    )
    group = answer(f"{path}/step", task_id="prepare", **query)
    assert [(row["task_id"], row["state"]) for row in group["parts"]] == [
        ("prepare.load", "RUNNING"),
        ("prepare.trial", "PENDING"),
    ]


def _set_tasks(run, task_id, map_index=-1, **values):
    """Give a task instance another state in Airflow's database."""
    found = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": task_id, "map_index": map_index}
    with create_session() as session:
        session.execute(update(TaskInstance).filter_by(**found).values(**values))
