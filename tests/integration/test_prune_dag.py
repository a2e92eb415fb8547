"""The maintenance DAG of the examples, under `dag.test()`."""

import importlib.util
from pathlib import Path

import pytest

from airflow_zen import save

EXAMPLE = Path(__file__).parents[2] / "dags_examples" / "prune_artifacts.py"


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


@pytest.mark.airflow
def test_the_maintenance_dag_runs(run_dag_test, caplog):
    """It prunes with its parameters, and its task gives what it did."""
    save("nobody refers to this")
    spec = importlib.util.spec_from_file_location("prune_artifacts", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ended = run_dag_test(module.prune_artifacts())
    assert str(ended.state) == "success"
    task = ended.get_task_instance("prune")
    assert task.xcom_pull(task_ids="prune") == {"deleted": 0, "bytes": 0, "kept": 1}
