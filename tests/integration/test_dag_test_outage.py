"""`dag.test()` while MLflow is away: no scheduler is there to deliver later, and nothing is lost all the same."""

import os
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from airflow_zen.config.settings import open_stack
from tests.servers.mlflow_server import mlflow_away

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]

_SCRIPT = """
from datetime import datetime
from airflow.sdk import dag
from airflow_zen import ml_step

@ml_step(cache=False)
def number() -> int:
    return 42

@dag(dag_id="outage", schedule=None, start_date=datetime(2026, 1, 1))
def pipeline():
    number()

tested = pipeline()

if __name__ == "__main__":
    print(tested.test().state)
"""


@pytest.fixture
def run_script(new_airflow_db, tmp_path, monkeypatch):
    """Run the script of a user who has no scheduler, in a process of its own."""
    path = tmp_path / "dags" / "outage.py"
    path.parent.mkdir()
    path.write_text(_SCRIPT)
    settings = {
        "AIRFLOW_HOME": tmp_path,
        "AIRFLOW__CORE__DAGS_FOLDER": path.parent,
        "AIRFLOW__CORE__UNIT_TEST_MODE": False,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": new_airflow_db(tmp_path / "airflow.db"),
        "AIRFLOW__ZEN__ARTIFACT_ROOT": tmp_path / "root",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))

    def run():
        done = subprocess.run([sys.executable, path], env=os.environ, capture_output=True, text=True, check=False)
        assert "success" in done.stdout.splitlines(), done.stderr[-3000:]

    return run


def wait_until(condition):
    last = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.1)


def test_the_next_dag_test_delivers_what_is_owed(run_script, tmp_path, monkeypatch):
    """A `dag.test()` without MLflow succeeds; the next one with it delivers both, closed and drawn, and asks nobody."""
    with mlflow_away(tmp_path / "mlflow") as server:
        monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
        records = open_stack().records
        run_script()
        # Its follow-up goes on where a busy machine takes longer than `dag.test()` waits for it.
        wait_until(lambda: len([*records.undelivered(), *records.finished_dag_runs()]) == 2)
        server.start()
        run_script()
        wait_until(lambda: not [*records.undelivered(), *records.finished_dag_runs()])
        client = MlflowClient(server.uri)
        experiment = client.get_experiment_by_name("airflow/outage").experiment_id
        runs = client.search_runs([experiment])
        kinds = sorted((run.data.tags["zen.kind"], run.info.status) for run in runs)
        assert kinds == [("dag_run", "FINISHED")] * 2 + [("step", "FINISHED")] * 2
        notes = [run.data.tags["mlflow.note.content"] for run in runs if run.data.tags["zen.kind"] == "dag_run"]
        assert all("lineage.svg" in note for note in notes)
