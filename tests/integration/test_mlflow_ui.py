"""What a person finds in MLflow's own interface: the run tree, the datasets, the model and the graph.

`SCREENSHOTS=docs pytest tests/integration/test_mlflow_ui.py` renews the pictures of the documents.
"""

import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import DAG
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from airflow_zen import Output, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.plugin.finalize import finalize_dag_runs
from airflow_zen.runs.step_run import FinishedDagRun, StepState
from tests.harness import run_dag
from tests.servers.browser import browser_window
from tests.servers.mlflow_server import mlflow_server

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLASSIC = "workflowType=machine_learning"


@ml_step
def extract(rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"age": np.arange(rows, dtype=float), "calls": np.arange(rows) % 7, "left": np.arange(rows) % 3 == 0}
    )


@ml_step
def split(table: pd.DataFrame) -> Output(train=pd.DataFrame, test=pd.DataFrame):
    return table[:400].reset_index(drop=True), table[400:].reset_index(drop=True)


@ml_step
def features(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(old=table["age"] > 300)


@ml_step
def search(table: pd.DataFrame, strengths: tuple[float, ...] = (0.1, 1.0, 10.0)) -> float:
    import mlflow

    scores = {}
    for strength in strengths:
        with mlflow.start_run(nested=True, run_name=f"strength {strength:g}"):
            model = LogisticRegression(C=strength, max_iter=500).fit(table[["age", "calls", "old"]], table["left"])
            scores[strength] = model.score(table[["age", "calls", "old"]], table["left"])
            mlflow.log_param("strength", strength)
            mlflow.log_metric("accuracy", scores[strength])
    best = max(scores, key=scores.__getitem__)
    mlflow.log_metric("accuracy", scores[best])
    return best


@ml_step(model="churn")
def train(table: pd.DataFrame, strength: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=500).fit(table[["age", "calls", "old"]], table["left"])


@ml_step
def evaluate(model: LogisticRegression, table: pd.DataFrame) -> dict[str, float]:
    import mlflow

    mlflow.log_metric("accuracy", model.score(table[["age", "calls", "old"]], table["left"]))
    return {"accuracy": model.score(table[["age", "calls", "old"]], table["left"])}


@ml_step
def shift(model: LogisticRegression, table: pd.DataFrame, years: int) -> float:
    return float(model.predict(table[["age", "calls", "old"]].assign(age=table["age"] + years)).mean())


@ml_step
def report(shifts: list[float], metrics: dict[str, float]) -> dict[str, float]:
    return {**metrics, "largest": max(shifts)}


def churn():
    with DAG("churn", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        train_rows, test_rows = split(extract(600))
        train_table = features(train_rows)
        model = train(train_table, search(train_table))
        test_table = features.override(task_id="test_features")(test_rows)
        report(shift.partial(model=model, table=test_table).expand(years=[1, 5, 10, 20]), evaluate(model, test_table))
    return dag


@pytest.fixture(scope="module")
def mlflow_ui(moto, tmp_path_factory):
    """Run the DAG twice with a real MLflow, the second time from the cache, and follow up as the scheduler does."""
    directory = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as servers:
        for name, value in {**moto.environment(), "MLFLOW_S3_ENDPOINT_URL": moto.endpoint}.items():
            patch.setenv(name, value)
        server = servers.enter_context(mlflow_server(directory / "mlflow"))
        patch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", f"s3://{moto.bucket}/artifacts")
        patch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
        for run_id in ("monday", "tuesday"):
            assert set(run_dag(churn(), run_id).states.values()) == {"success"}
            ended = FinishedDagRun("churn", run_id, StepState.FINISHED, datetime.now().timestamp())
            assert finalize_dag_runs(open_stack(), [ended])
        client = MlflowClient(server.uri)
        experiment = client.get_experiment_by_name("airflow/churn").experiment_id
        runs = {
            (run.data.tags["zen.run_id"], run.data.tags.get("zen.task_id", "dag_run")): run
            for run in _own(client, experiment)
        }
        monday, tuesday = (
            {task: run for (of, task), run in runs.items() if of == day} for day in ("monday", "tuesday")
        )
        page = f"{server.uri}/#/experiments/{experiment}"
        yield SimpleNamespace(client=client, experiment=page, runs=monday, cached=tuesday, id=experiment)


def _own(client, experiment):
    return client.search_runs([experiment], "tags.`zen.run_id` LIKE '%'")


@pytest.fixture(scope="module")
def window(mlflow_ui):
    with browser_window(1360, 900) as window:
        yield window


@pytest.fixture
def page(window):
    """An empty page of a person who opens MLflow for the first time."""
    page = window.new_page()
    yield page
    page.evaluate("localStorage.clear()")
    page.close()


def screenshot(page, name):
    """Keep a picture of the page, without MLflow's chat beside it, where pictures are asked for."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder, f"{name}.png"))


def open_page(page, address):
    """Open a page of MLflow, and close its assistant."""
    page.goto(address)
    page.get_by_text("MLflow Assistant").wait_for()
    page.locator("button[aria-label='Close']").last.click()
    return page


def wait_for_texts(page, *texts):
    """Wait until the page shows each text: its parts come one after the other."""
    for text in texts:
        page.wait_for_function("text => document.body.innerText.includes(text)", arg=text)


def test_the_run_tree(mlflow_ui, page):
    """The list of runs shows a row for each DAG run, which opens to its steps, cached ones named so."""
    open_page(page, f"{mlflow_ui.experiment}/runs?{CLASSIC}")
    page.get_by_role("link", name="tuesday").wait_for()
    page.locator("[role='row']", has=page.get_by_role("link", name="monday")).get_by_role("button").first.click()
    page.get_by_role("link", name="train", exact=True).wait_for()
    page.get_by_text("features (").first.wait_for()
    screenshot(page, "mlflow-runs")


def test_one_line_for_each_dag_run(mlflow_ui, page):
    """The note of the experiment leads to its DAG runs alone, with their totals; the view is in MLflow's own list."""
    open_page(page, f"{mlflow_ui.experiment}/runs?{CLASSIC}")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="One line per DAG run").click()
    listed = opened.value
    wait_for_texts(listed, "zen.steps", "zen.seconds_saved", "2 matching runs")
    listed.get_by_role("button", name="DAG runs").wait_for()
    listed.get_by_role("button", name="Hide banner").click()
    screenshot(listed, "mlflow-dag-runs")
    listed.close()


def test_nested_trials(mlflow_ui, page):
    """The page of a step with nested runs leads to each of them, and has none of our marks among their tags."""
    open_page(page, f"{mlflow_ui.experiment}/runs/{mlflow_ui.runs['search'].info.run_id}?{CLASSIC}")
    page.get_by_role("link", name="strength 10").wait_for()
    wait_for_texts(page, "Lineage graph", "accuracy")
    screenshot(page, "mlflow-trials")
    page.get_by_role("link", name="strength 10").click()
    wait_for_texts(page, "Parent run", "search", "strength")
    assert "zen.call" not in page.inner_text("body")


def test_a_cached_step(mlflow_ui, page):
    """The page of a cached step says why, leads to the run that computed it, and shows its data, model and code."""
    open_page(page, f"{mlflow_ui.experiment}/runs/{mlflow_ui.cached['train'].info.run_id}?{CLASSIC}")
    wait_for_texts(page, "Cached", "churn/monday/train", ", which took", "def train", "Datasets", "Logged models")
    assert page.get_by_text("About this run").bounding_box()["x"] < 1300
    screenshot(page, "mlflow-cached")


def test_the_graph_in_the_description(mlflow_ui, page):
    """The page of a DAG run shows a table whose links lead to the steps, and below it the graph, as wide as the page."""
    open_page(page, f"{mlflow_ui.experiment}/runs/{mlflow_ui.runs['dag_run'].info.run_id}?{CLASSIC}")
    image = page.locator("img[src*='lineage.svg']")
    image.wait_for()
    page.get_by_text("Show more").first.click()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
    assert page.get_by_text("About this run").bounding_box()["x"] < 1300
    screenshot(page, "mlflow-graph")
    link = page.locator("table").get_by_role("link", name="train", exact=True)
    assert mlflow_ui.runs["train"].info.run_id in link.get_attribute("href")


def test_datasets_and_models_of_a_step(mlflow_ui, page):
    """The page of a step shows its data with digests, its model, its code and the way back."""
    open_page(page, f"{mlflow_ui.experiment}/runs/{mlflow_ui.runs['train'].info.run_id}?{CLASSIC}")
    page.get_by_text("features", exact=False).first.wait_for()
    page.get_by_text("def train").first.wait_for()
    wait_for_texts(page, "Datasets", "churn")
    screenshot(page, "mlflow-step")


def test_the_preview_of_a_table(mlflow_ui, page):
    """Among the artifacts of a step is its output: the first rows, and a chart of each column."""
    run_id = mlflow_ui.runs["features"].info.run_id
    open_page(page, f"{mlflow_ui.experiment}/runs/{run_id}/artifacts/previews/output/preview.html?{CLASSIC}")
    frame = page.frame_locator("iframe").first
    frame.locator("thead svg").nth(3).wait_for()
    text = frame.locator("body").inner_text()
    assert "400 rows × 4 columns" in text
    assert "calls" in text
    screenshot(page, "mlflow-preview")


def test_the_model(mlflow_ui, page):
    """The model's page leads to the run that made it, and shows how it was judged, and on what."""
    (model,) = mlflow_ui.client.search_logged_models([mlflow_ui.id])
    open_page(page, f"{mlflow_ui.experiment}/models/{model.model_id}?{CLASSIC}")
    page.get_by_text("accuracy").first.wait_for()
    wait_for_texts(page, mlflow_ui.runs["train"].info.run_name, "test_features")
    screenshot(page, "mlflow-model")


def test_the_page_to_follow_an_artifact(mlflow_ui, page):
    """The HTML artifact works inside MLflow's viewer: a click shows where an artifact comes from and goes to."""
    run_id = mlflow_ui.runs["dag_run"].info.run_id
    open_page(page, f"{mlflow_ui.experiment}/runs/{run_id}/artifacts/lineage/lineage.html?{CLASSIC}")
    frame = page.frame_locator("iframe").first
    frame.locator("[data-node]").first.wait_for()
    frame.locator("#search").fill("split.train")
    frame.locator("#search").press("Enter")
    assert frame.locator("aside h2").inner_text() == "split.train"
    assert frame.locator(".node.near").count() > 3
    screenshot(page, "mlflow-follow")


def test_the_trace_that_mlflow_draws(mlflow_ui, page):
    """The DAG run's trace is a graph in MLflow's own view."""
    open_page(page, f"{mlflow_ui.experiment}/runs/{mlflow_ui.runs['dag_run'].info.run_id}/traces?{CLASSIC}")
    page.get_by_text("tr-", exact=False).first.click()
    page.get_by_label("Trace display settings").click()
    page.get_by_role("menuitemcheckbox", name="Show graph").click()
    page.keyboard.press("Escape")
    page.get_by_text("Click a graph node").wait_for()
    page.mouse.move(314, 656)
    page.mouse.down()
    page.mouse.move(314, 200, steps=10)
    page.mouse.up()
    screenshot(page, "mlflow-trace")
