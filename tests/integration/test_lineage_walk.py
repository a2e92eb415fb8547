"""From a registered model version back to the raw input, over two DAGs, with nothing but MLflow's own client."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import DAG
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from airflow_zen import lineage, ml_step
from tests.harness import run_dag


@ml_step
def extract(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"age": np.arange(rows, dtype=float), "left": np.arange(rows) % 3 == 0})


@ml_step
def clean(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["age"] > 3].reset_index(drop=True)


@ml_step
def features(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(old=table["age"] > 50)


@ml_step(model="walked")
def fit(table: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(table[["age", "old"]], table["left"])


def archive():
    with DAG("archive", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        clean(extract(100))
    return dag


def training(table):
    with DAG("training", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        fit(features(table))
    return dag


@pytest.fixture
def raw_digest(server, tmp_path, monkeypatch):
    """Run both DAGs, the second on what the first made; give the digest of the raw table."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    first = run_dag(archive())
    second = run_dag(training(first.xcom("clean")))
    assert {*first.states.values(), *second.states.values()} == {"success"}
    return first.xcom("extract")["digest"]


@pytest.mark.server
def test_a_version_leads_to_its_raw_input(server, raw_digest):
    """MLflow's client alone walks from `models:/walked/1` to the digest of the raw table; ours takes the same way."""
    client = MlflowClient(server.uri)
    experiments = [e.experiment_id for e in client.search_experiments(filter_string="name LIKE 'airflow/%'")]

    def inputs(run):
        return [item.rpartition("@")[2] for item in run.data.tags.get("zen.inputs", "").split("|") if item]

    def maker(digest):
        return client.search_runs(experiments, f"tags.`zen.outputs` LIKE '%@{digest}|%'")[0]

    run = client.get_run(client.get_model_version("walked", "1").run_id)
    way, digest = [run.data.tags["zen.task_id"]], ""
    while inputs(run):
        (digest,) = inputs(run)
        run = maker(digest)
        way.append(f"{run.data.tags['zen.dag_id']}.{run.data.tags['zen.task_id']}")
    assert way == ["fit", "training.features", "archive.clean", "archive.extract"]
    assert digest == raw_digest[:16]
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.digest, raw_digest in dataset.dataset.profile) == (digest, True)
    assert [artifact.digest for artifact in lineage.ancestry_of("models:/walked/1", server.uri).raw] == [digest]
