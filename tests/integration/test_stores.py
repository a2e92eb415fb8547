"""The whole path of a step on each kind of remote store, by an Airflow connection."""

import json
from datetime import datetime

import pandas as pd
import pytest
from airflow.sdk import dag

import airflow_zen
from airflow_zen import ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId


@ml_step
def table(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"number": range(rows), "text": [f"row {n}" for n in range(rows)]})


@ml_step
def total(table: pd.DataFrame) -> int:
    return int(table["number"].sum())


@dag(dag_id="on_a_store", schedule=None, start_date=datetime(2026, 1, 1))
def pipeline():
    total(table(1000))


def connection_to(kind, server):
    """The connection as a deployment writes it into `AIRFLOW_CONN_*`."""
    return {
        "ceph": lambda: {
            "conn_type": "aws",
            "login": server.access_key,
            "password": server.secret_key,
            "extra": {"endpoint_url": server.endpoint, "region_name": "us-east-1"},
        },
        "azure": lambda: {
            "conn_type": "wasb",
            "host": server.endpoint,
            "login": server.account,
            "password": server.key,
        },
        "google": lambda: {
            "conn_type": "google_cloud_platform",
            "extra": {"is_anonymous": True, "gcs.endpoint": server.endpoint},
        },
    }[kind]()


@pytest.mark.parametrize("kind", ["ceph", "azure", "google"])
def test_a_pipeline_runs_hits_and_is_recorded(run_dag_test, request, kind, monkeypatch):
    """On S3, Azure and Google a DAG run stores its artifacts and records, and a second one finds them all."""
    server = request.getfixturevalue(kind)
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(connection_to(kind, server)))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", f"{server.root}/pipeline")
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID", "store")
    for cache in ("miss", "hit"):
        run = run_dag_test(pipeline())
        assert run.state == "success"
        record = open_stack().records.get(StepRunId("on_a_store", run.run_id, "total"))
        assert record.cache == cache
        assert airflow_zen.load(record.outputs["output"]) == 499_500
        frame = airflow_zen.load(record.inputs["table"])
        assert len(frame) == 1000
        assert frame["text"].iloc[-1] == "row 999"
        assert {made.cache for made in open_stack().records.read_dag_run("on_a_store", run.run_id)} == {cache}
