"""Promises of `airflow_zen.lineage.mlflow.recorder`: MLflow in user code logs into the step's run, and does not end it."""

import json
import subprocess
import sys

import pytest

from tests.lineage.mlflow.step_process import ENVIRONMENT

pytestmark = pytest.mark.server

_TASK = """
import json, sys
from tests.lineage.mlflow.step_process import run_code
run_id, delivered, *_ = run_code(*sys.argv[1:])
print(json.dumps([run_id, delivered, "mlflow" in sys.modules]))
"""


@pytest.fixture
def task(server, root, dag_id, tmp_path):
    """Run code as the function of a step, in a process of its own; give the run's id and what it printed."""

    def run(code):
        command = [sys.executable, "-c", _TASK, server.uri, root, dag_id, code]
        printed = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, check=True, capture_output=True, text=True)
        return json.loads(printed.stdout.splitlines()[-1])

    return run


def test_metrics_land_in_the_run_and_failed_survives(client, task, tmp_path):
    """`mlflow.log_metric` lands in the step's run, and a step that raises stays FAILED after the process's exit."""
    run_id, delivered, _ = task("import mlflow; mlflow.log_metric('auc', 0.9); raise ValueError('bad')")
    run = client.get_run(run_id)
    assert delivered
    assert (run.info.status, run.info.end_time) == ("FAILED", 1_700_000_009_000)
    assert (run.data.metrics["auc"], run.data.params["depth"]) == (0.9, "8")
    assert list(tmp_path.glob("mlflow.db")) == []


def test_nested_runs_end_with_the_step(client, task):
    """A nested run that user code left open is under the step's run, and ends with it."""
    code = "import mlflow; mlflow.start_run(); mlflow.start_run(nested=True, run_name='fold'); raise ValueError"
    run_id, _, _ = task(code)
    run = client.get_run(run_id)
    (fold,) = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert (fold.info.status, run.info.status) == ("FAILED", "FAILED")


def test_mlflow_is_not_imported_for_its_own_sake(task):
    """A step whose code does not use MLflow does not import it."""
    assert task("pass")[1:] == [True, False]
