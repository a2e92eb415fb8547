"""Run the DAG files of this folder as their users do, with a real Airflow and a real MLflow."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from mlflow import MlflowClient
from mlflow.entities import Run

from airflow_zen import ArtifactRef
from airflow_zen.config.settings import open_stack
from airflow_zen.plugin.finalize import finalize_dag_runs
from airflow_zen.plugin.listener import ZenPlugin
from airflow_zen.runs.step_run import FinishedDagRun, StepRun, StepState
from tests.servers.mlflow_server import MlflowServer

# Seconds in which a busy machine closes and draws a DAG run in MLflow.
_TIMEOUT = 300


@dataclass(frozen=True)
class PortRun:
    """One DAG run: its run in MLflow, the records of its steps, and all runs that MLflow got meanwhile."""

    parent: Run
    steps: list[StepRun]
    mlflow_runs: list[Run]

    @property
    def cache_states(self) -> set[str]:
        return {str(step.cache) for step in self.steps}

    def output(self, task_id: str, output: str = "output") -> ArtifactRef:
        (step,) = [step for step in self.steps if step.id.task_id == task_id]
        return step.outputs[output]

    def mlflow_run(self, task_id: str) -> Run:
        (found,) = [run for run in self.under(self.parent) if run.data.tags["zen.task_id"] == task_id]
        return found

    def under(self, parent: Run) -> list[Run]:
        return [run for run in self.mlflow_runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]

    def strays(self) -> list[Run]:
        """Return the runs that are neither the DAG run, nor a step's, nor under a step's; and those still open."""
        steps = self.under(self.parent)
        known = {run.info.run_id for run in [self.parent, *steps, *(run for step in steps for run in self.under(step))]}
        return [run for run in self.mlflow_runs if run.info.run_id not in known or run.info.status != "FINISHED"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAG folder with the ports."""
    return Path(shutil.copytree(Path(__file__).parent / "dags", tmp_path_factory.mktemp("ports") / "dags"))


@pytest.fixture
def client(server: MlflowServer) -> MlflowClient:
    return MlflowClient(server.uri)


@pytest.fixture
def run_port(
    run_dag_test: Callable[..., Any],
    folder: Path,
    client: MlflowClient,
    server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., PortRun]:
    """Run a DAG of a file by `dag.test()`, until its end is in MLflow: `run_port(file, dag_id)`."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    (listener,) = ZenPlugin.listeners
    monkeypatch.setattr(listener, "_enqueue", lambda *_: None)

    def run(file: str, dag_id: str) -> PortRun:
        bag = DagBag(dag_folder=folder / f"{file}.py")
        assert not bag.import_errors
        before = {run.info.run_id for run in _runs(client, dag_id)}
        ended = run_dag_test(bag.dags[dag_id])
        assert ended.state == "success"
        _finalize(FinishedDagRun(dag_id, ended.run_id, StepState.FINISHED, time.time()))
        found = [run for run in _runs(client, dag_id) if run.info.run_id not in before]
        (parent,) = [run for run in found if run.data.tags.get("zen.kind") == "dag_run"]
        return PortRun(parent, list(open_stack().records.read_dag_run(dag_id, ended.run_id)), found)

    return run


def _runs(client: MlflowClient, dag_id: str) -> list[Run]:
    """Return the runs in a DAG's experiment, and in those that are no DAG's."""
    experiments = [e for e in client.search_experiments() if e.name == f"airflow/{dag_id}" or "/" not in e.name]
    return list(client.search_runs([experiment.experiment_id for experiment in experiments], max_results=1000))


def _finalize(run: FinishedDagRun) -> None:
    """Close and draw a DAG run in MLflow, as the scheduler's process does, which takes longer to start than this."""
    deadline = time.monotonic() + _TIMEOUT
    while not finalize_dag_runs(open_stack(), [run]):
        assert time.monotonic() < deadline, "the DAG run was not closed in MLflow"
