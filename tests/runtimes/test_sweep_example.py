"""`dags_examples/sweep.py` in Airflow's metadata database, with a real MLflow, and how MLflow shows its trials."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow import MlflowClient

from airflow_zen.config.settings import open_stack
from tests.servers.browser import browser_page

_EXAMPLE = Path(__file__).parents[2] / "dags_examples/sweep.py"
# Trials of the first run and of the second, and how many of these fail: two waves in the suite, all of them on demand.
_NARROW, _WIDE, _FAILED = (30, 40, 1) if os.environ.get("ZEN_WHOLE_SWEEP") else (10, 14, 0)


@pytest.fixture
def client(server, root, monkeypatch):
    """MLflow's client, where the example logs its runs."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    return MlflowClient(server.uri)


@pytest.fixture
def run(run_dag_test, load_dag_file, client, monkeypatch):
    """Run the example with a number of trials; return the run and the records of its trials."""

    def run(trials):
        monkeypatch.setenv("SWEEP_TRIALS", str(trials))
        module = load_dag_file(_EXAMPLE.read_text(), "sweep")
        ended = run_dag_test(module.sweep_flights())
        records = open_stack().records.read_dag_run("sweep_flights", ended.run_id)
        return ended, [record for record in records if record.sweep]

    return run


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_wider_sweep_reuses_the_narrower_one(run, client):
    """A sweep ends with a model; of a wider one its trials are hits, and MLflow's plot has an axis for each parameter and `auc`.

    With ZEN_WHOLE_SWEEP=1 they have 30 and 40 trials, of which one fails.
    """
    narrow, first = run(_NARROW)
    wide, second = run(_WIDE)
    assert (narrow.state, wide.state) == ("success", "success")
    assert Counter((trial.cache, str(trial.state)) for trial in first) == {("miss", "FINISHED"): _NARROW}
    assert Counter((trial.cache, str(trial.state)) for trial in second) == Counter(
        {
            ("hit", "FINISHED"): _NARROW,
            ("miss", "FINISHED"): _WIDE - _NARROW - _FAILED,
            ("miss", "FAILED"): _FAILED,
        }
    )
    states = {ti.task_id: ti.state for ti in wide.get_task_instances() if ti.map_index < 0}
    assert {states["best_fit"], states["register"]} == {"success"}
    assert client.get_model_version("late_flights", "1").status == "READY"
    show_trials(client, wide.run_id)


def show_trials(client, run_id):
    """Compare the trials that have ended well in MLflow's page, and look at what one of them used."""
    experiment = client.get_experiment_by_name("airflow/sweep_flights").experiment_id
    of_run = f"tags.`zen.run_id` = '{run_id}' and attributes.status = 'FINISHED' and tags.`zen.sweep` = 'sweep_fit'"
    trials = client.search_runs([experiment], f"{of_run} and tags.`zen.kind` = 'step'")
    assert len(trials) == _WIDE - _FAILED
    ids = quote(json.dumps([trial.info.run_id for trial in trials]))
    with browser_page(1360, 640) as page:
        base, mode = client.tracking_uri, "workflowType=machine_learning"
        page.goto(f"{base}/#/compare-runs?runs={ids}&experiments={quote(json.dumps([experiment]))}&{mode}")
        axes = page.locator(".parcoords .axis-title")
        axes.nth(2).wait_for(state="attached")
        assert axes.all_text_contents() == ["depth", "learning_rate", "auc"]
        screenshot(page, "mlflow-sweep")
        # A chart is in the page once it is in the window.
        page.set_viewport_size({"width": 1360, "height": 1200})
        computed = next(trial for trial in trials if trial.data.tags["zen.cache"] == "miss")
        page.goto(f"{base}/#/experiments/{experiment}/runs/{computed.info.run_id}/system-metrics?{mode}")
        for name in ("cpu_seconds", "peak_memory_megabytes", "read_megabytes", "written_megabytes"):
            page.get_by_text(name, exact=True).first.wait_for()


def screenshot(page, name):
    """Keep a picture of the page where pictures are asked for."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(3000)
        page.screenshot(path=Path(folder, f"{name}.png"))
