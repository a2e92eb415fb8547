"""Promises of `airflow_zen.operators.links`: buttons on a task's page, and how the task says what the cache did."""

from urllib.parse import unquote

import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression

from airflow_zen import fused, ml_step
from airflow_zen.operators.links import STEP_LINKS, page_link
from tests.airflow_version import AIRFLOW_VERSION, DagSerialization
from tests.harness import run_dag
from tests.operators.pipelines import frame, pipeline, total

HAS_PAGES = AIRFLOW_VERSION >= (3, 3)
KEYS = {link.name: link.xcom_key for link in STEP_LINKS}


@ml_step(model="linked")
def fit(table: list) -> LinearRegression:
    return LinearRegression()


def links(run, task_id, map_index=-1):
    """Return the addresses that Airflow shows as buttons, by name."""
    return {name: url for name, key in KEYS.items() if (url := run.xcom(task_id, key, map_index))}


@pytest.fixture
def mlflow(server, root, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    return server.uri


@pytest.mark.server
def test_a_step_links_to_its_run_its_page_and_its_versions(mlflow):
    """A computed step has links to its run in MLflow, to its page in Airflow and to its versions; none to another run."""
    run = run_dag(pipeline(lambda: total([frame(3)]), dag_id="links_computed"))
    found = links(run, "frame")
    assert set(found) == {"MLflow run", "Versions"} | ({"Artifacts"} if HAS_PAGES else set())
    page = found["MLflow run"].partition("?")[0]
    assert not HAS_PAGES or found["Artifacts"].endswith(
        "/dags/links_computed/runs/manual__1/tasks/frame/plugin/zen-step"
    )
    run_id = page.rpartition("/")[2]
    assert [file.path for file in MlflowClient(mlflow).list_artifacts(run_id, "previews/output")]
    assert 'tags."zen.task_id" = "frame"' in unquote(found["Versions"])


@pytest.mark.server
def test_the_link_of_a_brief_step_is_pushed_when_it_has_ended(mlflow, monkeypatch):
    """The link to the MLflow run is pushed while a step runs, unless the task's latest result took a short time."""
    monkeypatch.setattr("airflow_zen.steps.run._BRIEF_SECONDS", 600.0)
    runs = [
        run_dag(pipeline(lambda rows=rows: frame(rows), dag_id="links_brief"), run_id=f"r{rows}") for rows in (1, 2)
    ]
    kinds = [[(type(sent).__name__, getattr(sent, "key", "")) for sent in run.supervisor.sent_messages] for run in runs]
    first, second = (
        kind.index(("SetXCom", KEYS["MLflow run"])) < kind.index(("SetXCom", "return_value")) for kind in kinds
    )
    assert (first, second) == (True, False)
    assert links(runs[1], "frame")["MLflow run"]


@pytest.mark.server
def test_a_hit_links_to_the_run_that_made_its_result(mlflow):
    """A reused result, of a mapped task too, has a link to the MLflow run that computed it, also from another DAG."""
    first = run_dag(pipeline(lambda: total(frame.expand(rows=[1, 2])), dag_id="links_first"))
    second = run_dag(pipeline(lambda: total(frame.expand(rows=[1, 2])), dag_id="links_second"))
    for task_id, map_index in (("frame", 0), ("frame", 1), ("total", -1)):
        made, reused = (links(run, task_id, map_index) for run in (first, second))
        assert reused["Produced by"] == made["MLflow run"] != reused["MLflow run"]
        assert "Produced by" not in made


@pytest.mark.server
def test_the_versions_of_a_model(mlflow):
    """A step with `model=` links to the versions of its registered model."""
    run = run_dag(pipeline(lambda: fit([1]), dag_id="links_model"))
    assert links(run, "fit")["Versions"].startswith(f"{mlflow}/#/models/linked?")


def test_links_without_mlflow(root):
    """Without MLflow a step links to its page, and sends Airflow no empty links; a hit links to the producer's log."""
    for run_id in ("r1", "r2"):
        run = run_dag(pipeline(lambda: frame(3)), run_id=run_id)
        sent = [getattr(message, "key", "") for message in run.supervisor.sent_messages]
        assert not {KEYS["MLflow run"], KEYS["Versions"]} & set(sent)
        page = links(run, "frame").get("Artifacts", "")
        assert page.endswith(f"/dags/d/runs/{run_id}/tasks/frame/plugin/zen-step") if HAS_PAGES else not page
    produced_by = links(run, "frame")["Produced by"]
    assert "/dags/d/runs/r1/tasks/frame" in produced_by


def test_the_task_of_a_fused_group_links_to_its_page(root):
    """The task of a fused group has one button, which leads to the page with its steps."""

    def build():
        with fused("prepare"):
            total([frame(3)])

    page = "/dags/d/runs/manual__1/tasks/prepare/plugin/zen-step"
    found = links(run_dag(pipeline(build)), "prepare")
    assert {name: url.endswith(page) for name, url in found.items()} == ({"Artifacts": True} if HAS_PAGES else {})
    (task,) = DagSerialization.to_dict(pipeline(build))["dag"]["tasks"]
    assert task["__var"]["_operator_extra_links"] == {"Artifacts": KEYS["Artifacts"]}


def test_the_page_of_a_mapped_step_under_a_path():
    """The page of a mapped instance is beside its log, under the path of Airflow's own address, from Airflow 3.3 on."""

    class Instance:
        log_url = "https://company.example/af/dags/d/runs/r/tasks/t/mapped/3?try_number=2"

    assert page_link(Instance(), "3.3.2") == {
        "Artifacts": "https://company.example/af/dags/d/runs/r/tasks/t/mapped/3/plugin/zen-step"
    }
    assert page_link(Instance(), "3.2.2") == page_link(object(), "3.3.2") == {}


def test_links_are_known_before_a_step_runs():
    """The serialized DAG names every link of a step, mapped or not, so that Airflow's API finds them."""
    stored = DagSerialization.to_dict(pipeline(lambda: total(frame.expand(rows=[1]))))
    for task in stored["dag"]["tasks"]:
        assert task["__var"]["_operator_extra_links"] == KEYS


def test_the_label_of_a_task_takes_no_request_of_its_own(root):
    """Airflow's server gets the label with the state of the task."""
    for label in ("computed: no earlier result of this task is remembered", "cached"):
        sent = {
            type(message).__name__: message for message in run_dag(pipeline(lambda: frame(3))).supervisor.sent_messages
        }
        assert "SetRenderedMapIndex" not in sent
        assert sent["SucceedTask"].rendered_map_index == label


def test_a_task_says_what_the_cache_did(root):
    """The label of a task that is not mapped is `cached`, or `computed` with the reason."""
    labels = [
        run_dag(pipeline(lambda rows=rows: frame(rows)), run_id=f"r{number}").task("frame").label
        for number, rows in enumerate((1, 1, 2))
    ]
    assert labels == [
        "computed: no earlier result of this task is remembered",
        "cached",
        "computed: parameter 'rows': 1 → 2",
    ]
    again = run_dag(pipeline(lambda: frame(1)), run_id="r4", conf={"zen": {"cache": False}})
    assert again.task("frame").label == "computed: the DAG run was triggered with {'zen': {'cache': false}}"
