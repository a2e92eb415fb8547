"""Promises of `airflow_zen.lineage.mlflow.recorder`: MLflow in user code logs into the step's run, and does not end it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.server

# The environment is that of the user's function only while it runs, as `run_step` has it.
_TASK = """
import json, os, sys
from msgspec.structs import replace
from airflow_zen.transports.base import open_transport
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest, TrackingServer
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState

uri, root, dag_id, code = sys.argv[1:]
recorder = MlflowRecorder(MlflowRest(TrackingServer(uri)), open_transport(root, {}), root)
run = StepRun(StepRunId(dag_id, "r", "train"), started=1_700_000_000.0, parameters={"depth": 8})
opened = recorder.start(run)
before = dict(os.environ)
os.environ.update(opened.environment)
try:
    exec(code)
    state, error = StepState.FINISHED, ""
except Exception as failure:
    state, error = StepState.FAILED, repr(failure)
os.environ.clear()
os.environ.update(before)
delivered = recorder.finish(replace(run, state=state, ended=1_700_000_009.0, error=error), opened)
print(json.dumps([opened.run_id, delivered, "mlflow" in sys.modules]))
"""


@pytest.fixture
def task(server, root, dag_id, tmp_path):
    """Run code as the function of a step, in a process of its own; give the run's id and what it printed."""

    def run(code):
        command = [sys.executable, "-c", _TASK, server.uri, root, dag_id, code]
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        printed = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
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


def test_autologging_lands_in_the_run(client, task):
    """What autologging says is in the step's run, and the runs that it begins are under that, with no code of ours."""
    code = """
import mlflow, numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
mlflow.autolog(silent=True, log_models=False)
table = np.arange(4.0).reshape(4, 1)
GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2).fit(table, 2 * table[:, 0])
"""
    run_id, delivered, _ = task(code)
    run = client.get_run(run_id)
    nested = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert (delivered, run.info.status, run.data.params["best_alpha"]) == (True, "FINISHED", "0.1")
    assert sorted(one.data.params["alpha"] for one in nested) == ["0.1", "1.0"]
