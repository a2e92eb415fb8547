"""A project's own materializer, written in its DAG file, under `dag.test()`."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pytest
from airflow.sdk import dag

from airflow_zen import Artifact, Materializer, ml_step, register_materializer
from airflow_zen.config.settings import open_stack
from airflow_zen.materializers import user_defined
from airflow_zen.runs.step_run import StepRunId


class Plan:
    def __init__(self, text: str) -> None:
        self.text = text


class PlanMaterializer(Materializer):
    types = (Plan,)
    encoding = "plan.text@1"

    def save(self, value: Plan, directory: Path) -> Mapping[str, Any]:
        (directory / "plan.txt").write_text(value.text)
        return {"shape": f"{len(value.text)} characters"}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Plan:
        return Plan((directory / "plan.txt").read_text())


class CsvMaterializer(Materializer):
    encoding = "table.csv@1"

    def save(self, value: pd.DataFrame, directory: Path) -> Mapping[str, Any]:
        value.to_csv(directory / "table.csv", index=False)
        return {}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> pd.DataFrame:
        return pd.read_csv(directory / "table.csv")


Csv = Annotated[pd.DataFrame, Artifact(materializer=CsvMaterializer)]


@ml_step
def plan(text: str) -> Plan:
    return Plan(text)


@ml_step
def table(plan: Plan) -> Csv:
    return pd.DataFrame({"word": plan.text.split()})


@ml_step
def count(table: Csv) -> int:
    return len(table)


@dag(dag_id="own_materializers", schedule=None, start_date=datetime(2026, 1, 1))
def pipeline():
    count(table(plan("one two three")))


def test_own_materializers_store_and_read(run_dag_test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decorated materializer and a named one store a DAG's values, and its later tasks read them."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(user_defined, "_REGISTERED", {})
    register_materializer(PlanMaterializer)
    run = run_dag_test(pipeline())
    assert run.state == "success"
    records = open_stack().records
    made = [
        records.get(StepRunId("own_materializers", run.run_id, name)).outputs["output"]
        for name in ("plan", "table", "count")
    ]
    assert [ref.encoding for ref in made] == ["plan.text@1", "table.csv@1", "python.json@1"]
    assert made[0].shape == "13 characters"
