"""Promises of `airflow_zen.lineage.mlflow.dag_runs`: a DAG run is read from MLflow completely."""

import math

import pytest

from airflow_zen.lineage.graph.publish import GraphPublisher
from airflow_zen.lineage.mlflow.dag_runs import find_dag_run
from airflow_zen.runs.step_run import CacheState

pytestmark = pytest.mark.server


def test_more_steps_and_models_than_a_page(client, rest, record_step, step, dag_id, monkeypatch):
    """Steps and models of a DAG run are found on all pages."""
    monkeypatch.setattr("airflow_zen.lineage.mlflow.rest._RUNS_PER_PAGE", 2)
    monkeypatch.setattr("airflow_zen.lineage.mlflow.dag_runs._MODELS_PER_PAGE", 2)
    runs = [record_step(step("a", map_index=index)) for index in range(3)]
    parent = client.get_run(runs[0])
    tags = client.get_run(parent.data.tags["mlflow.parentRunId"]).data.tags
    key = parent.data.tags["zen.run_key"] if "zen.run_key" in parent.data.tags else tags["zen.run_key"]
    for number in range(5):
        named = {"zen.run_key": key, "zen.digest": f"{number:064x}"}
        client.create_logged_model(parent.info.experiment_id, f"m{number}", tags=named)
    known = find_dag_run(dag_id, "manual__1", rest)
    assert (len(known.steps), len(known.models)) == (3, 5)


@pytest.fixture
def publish(client, recorder, rest, records, transport, root, ended, dag_id):
    """Return a function that records step runs with metrics, draws their DAG run twice, and returns MLflow's metrics."""

    def record(run, metrics=None):
        opened = recorder.start(run)
        for number, (key, value) in enumerate((metrics or {}).items()):
            client.log_metric(opened.run_id, key, value, timestamp=1000 + number, step=number)
        finished = ended(run)
        records.put(finished, recorder.finish(finished, opened))
        for _ in range(2):
            GraphPublisher(rest, records, transport, root).publish(run.id.dag_id, run.id.run_id)
        return client.get_run(opened.run_id)

    return record


def test_a_cached_run_shows_the_metrics_that_it_reuses(client, publish, step):
    """The run of a hit has the metrics of the run that it reuses as `reused/<name>`, with value, time and step."""
    origin = publish(step(run_id="r1"), {"auc": 0.9, "loss": float("nan"), "system/cpu": 1.0})
    first = publish(step(run_id="r2", cache=CacheState.HIT, origin=str(step(run_id="r1").id)))
    again = publish(step(run_id="r3", cache=CacheState.HIT, origin=str(step(run_id="r1").id)))
    for hit in (first, again):
        reused = {key: value for key, value in hit.data.metrics.items() if not key.startswith("zen.")}
        assert reused.keys() == {"reused/auc", "reused/loss"}
        assert reused["reused/auc"] == 0.9
        assert math.isnan(reused["reused/loss"])
        (metric,) = client.get_metric_history(hit.info.run_id, "reused/auc")
        assert (metric.timestamp, metric.step) == (1000, 0)
    assert "reused/auc" not in client.get_run(origin.info.run_id).data.metrics


def test_a_cached_run_whose_origin_mlflow_does_not_have(publish, step):
    """Without the run that a hit reuses, as in another MLflow, the hit is drawn without its metrics."""
    hit = publish(step(cache=CacheState.HIT, origin="elsewhere/r/train/-1/1"))
    assert not [key for key in hit.data.metrics if not key.startswith("zen.")]
