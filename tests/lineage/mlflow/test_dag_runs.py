"""Promises of `airflow_zen.lineage.mlflow.dag_runs`: a DAG run is read from MLflow completely."""

import pytest

from airflow_zen.lineage.mlflow.dag_runs import find_dag_run

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
