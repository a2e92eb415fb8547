from urllib.parse import unquote

import msgspec
import pytest

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.lineage.mlflow.parent_runs import ParentRun, _claim_key
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer

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
