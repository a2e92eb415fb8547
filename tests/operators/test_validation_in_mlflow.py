"""Promises of how MLflow shows validations: the state of the task, metrics, and the page of the report."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from airflow_zen import Artifact, Check, InRange, NotNull, ValidationReport, ml_step, validate
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

DAG = "validation_in_mlflow"


@ml_step
def flights() -> Annotated[
    pd.DataFrame, Artifact("flights", checks=[NotNull("delay")], on_failure="warn", quarantine=True)
]:
    return pd.DataFrame({"delay": [1.0, None, 700.0]})


def drifted(table: pd.DataFrame) -> ValidationReport:
    return ValidationReport("drift", [Check(name="drift", passed=False)], metrics={"drift.share": 0.25})


def page_of(client: MlflowClient, run: Any, folder: str) -> str:
    path = client.download_artifacts(run.info.run_id, f"previews/{folder}/preview.html")
    with open(path, encoding="utf-8") as file:
        return file.read()


@pytest.mark.server
def test_mlflow_has_state_metrics_and_page(server, root, monkeypatch):
    """The run of a failed validation is FAILED, that of a reused one too; both have the metrics and the page."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    client = MlflowClient(server.uri)
    for run_id in ("r1", "r2"):
        run_dag(
            pipeline(lambda: validate(flights(), [InRange("delay", max=600), drifted], task_id="check"), DAG), run_id
        )
    experiment = client.get_experiment_by_name(f"airflow/{DAG}").experiment_id
    checks = client.search_runs([experiment], "tags.`zen.task_id` = 'check'")
    assert sorted(run.data.tags["zen.cache"] for run in checks) == ["hit", "miss"]
    for run in checks:
        assert run.info.status == "FAILED"
        assert run.data.tags["zen.error"].startswith("ValidationFailed: 2 checks failed: in_range(delay), drift.")
        metrics = {name: run.data.metrics[name] for name in ("validation.failed", "validation.rows", "drift.share")}
        assert metrics == {"validation.failed": 2, "validation.rows": 3, "drift.share": 0.25}
        page = page_of(client, run, "output")
        assert "in_range" in page
        assert "700.0" in page
        assert f"{DAG}/check@" in run.data.tags["zen.outputs"]
    for run in client.search_runs([experiment], "tags.`zen.task_id` = 'flights'"):
        assert (run.info.status, run.data.metrics["validation.failed"]) == ("FINISHED", 1)
        assert "not_null" in page_of(client, run, "output.checks")
