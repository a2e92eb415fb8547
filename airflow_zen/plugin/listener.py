"""Listen for the end of DAG runs, however they end, and have MLflow show it, without stalling the scheduler."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from airflow_zen.plugin.worker import DagRunWorker
from airflow_zen.runs.step_run import FinishedDagRun, StepState

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger("airflow_zen.plugin")


class DagRunListener:
    """Hear of every DAG run that ends in this process: the scheduler's, the API server's, or a test's."""

    def __init__(self, worker: DagRunWorker | None = None) -> None:
        self._worker = worker or DagRunWorker()

    @hookimpl
    def on_dag_run_running(self, dag_run: DagRun, msg: str) -> None:
        """Take up what a scheduler that died had to do; the first DAG run to start in this process says so."""
        try:
            if not self._worker.reconciled and _is_mlflow_configured():
                self._worker.reconcile()
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the scheduler goes on
            log.warning("What MLflow is owed from before waits for the end of a DAG run: %s", error)

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun, msg: str) -> None:
        """End the parent run as FINISHED."""
        self._enqueue(dag_run, StepState.FINISHED)

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        """End the parent run as FAILED."""
        self._enqueue(dag_run, StepState.FAILED)

    def _enqueue(self, dag_run: DagRun, state: StepState) -> None:
        if not _has_steps(dag_run):
            return
        try:
            if not _is_mlflow_configured() and getattr(dag_run, "backfill_id", None) is None:
                return
            self._worker.enqueue(FinishedDagRun(dag_run.dag_id, dag_run.run_id, state, time.time()))
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the scheduler goes on
            log.warning("The MLflow parent run of %s/%s stays open: %s", dag_run.dag_id, dag_run.run_id, error)


def _is_mlflow_configured() -> bool:
    """Tell whether any stack has an MLflow to show anything; read anew, for a test or an operator may change it."""
    from airflow_zen.config.settings import all_settings

    return any(settings.mlflow_conn_id or settings.mlflow_tracking_uri for settings in all_settings())


def _has_steps(dag_run: Any) -> bool:
    """Tell whether the DAG holds a step; True where the DAG is not at hand."""
    tasks = getattr(getattr(dag_run, "dag", None), "tasks", None)
    if tasks is None:
        return True
    return any("@ml_step" in (getattr(t, "operator_name", ""), getattr(t, "task_type", "")) for t in tasks)
