"""The Airflow plugin: a listener for the end of DAG runs, which does not delay the scheduler."""

from __future__ import annotations

import logging
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from airflow_zen.errors import log_errors
from airflow_zen.plugin.worker import DagRunWorker
from airflow_zen.runs.step_run import FinishedDagRun, StepState
from airflow_zen.ui import mount

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger("airflow_zen.plugin")

# What DAG files import, and what a step imports beside that.
_PARSE_MODULES = ("airflow_zen.decorators.ml_step",)
_STEP_MODULES = (
    "airflow_zen.operators.execute",
    "airflow_zen.lineage.mlflow.recorder",
    "airflow_zen.lineage.mlflow.server",
    "airflow_zen.materializers.typed_json.encoding",
    "airflow_zen.steps.conversion",
    "airflow_zen.steps.resources",
)
# By the command of the process whose forks use them: a fork parses each DAG file, and a LocalExecutor forks each task.
_PRELOADED = {"dag-processor": _PARSE_MODULES, "scheduler": (*_PARSE_MODULES, *_STEP_MODULES)}


class DagRunListener:
    """Listens to the start of this process and to every DAG run that ends in it: the scheduler, the API server, or a test."""

    def __init__(self, worker: DagRunWorker | None = None) -> None:
        self._worker = worker or DagRunWorker()

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Import what is used in forks of this process, so that none of them spends the time.

        Airflow calls this in each task too, which imports what it needs.
        """
        if type(component).__name__ != "Job":
            return
        with log_errors("Each task and each parse of a DAG file imports airflow_zen itself"):
            for name in (name for command in sys.argv for name in _PRELOADED.get(command, ())):
                import_module(name)

    @hookimpl
    def on_dag_run_running(self, dag_run: DagRun, msg: str) -> None:
        """Deliver the lineage that earlier processes left, when the first DAG run starts in this one."""
        try:
            if not self._worker.reconciled and _is_mlflow_configured():
                self._worker.reconcile()
        except Exception as error:  # noqa: BLE001 - nothing may stop the scheduler
            log.warning("Earlier lineage is sent to MLflow only when a DAG run ends: %s", error)

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun, msg: str) -> None:
        """End the parent run as FINISHED."""
        self._enqueue(dag_run, StepState.FINISHED)

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        """End the parent run as FAILED."""
        self._enqueue(dag_run, StepState.FAILED)

    def _enqueue(self, dag_run: DagRun, state: StepState) -> None:
        try:
            is_backfill = getattr(dag_run, "backfill_id", None) is not None
            if _has_steps(dag_run) and (_is_mlflow_configured() or is_backfill):
                run = FinishedDagRun(dag_run.dag_id, dag_run.run_id, state, time.time())
                self._worker.enqueue(run, is_backfill)
        except Exception as error:  # noqa: BLE001 - nothing may stop the scheduler
            log.warning("The MLflow parent run of %s/%s stays open: %s", dag_run.dag_id, dag_run.run_id, error)


def _has_steps(dag_run: Any) -> bool:
    """Whether the DAG contains a step; True when the DAG is not available."""
    tasks = getattr(getattr(dag_run, "dag", None), "tasks", None)
    if tasks is None:
        return True
    return any(_is_step(task) for task in tasks)


def _is_step(task: Any) -> bool:
    """Whether a task of a serialized DAG has an operator of this package, or one that is derived from `MLStepOperator`."""
    names = (getattr(task, "operator_name", ""), getattr(task, "task_type", ""))
    return "@ml_step" in names or str(getattr(task, "_task_module", "")).startswith("airflow_zen.operators.")


def _is_mlflow_configured() -> bool:
    """Whether any stack has an MLflow server; read each time, because settings may change."""
    from airflow_zen.config.settings import all_settings

    return any(settings.mlflow_conn_id or settings.mlflow_tracking_uri for settings in all_settings())


class ZenPlugin(AirflowPlugin):
    """Registers the listener that closes and draws DAG runs in MLflow, and the pages with the application behind them."""

    name = "airflow_zen"
    listeners = [DagRunListener()]
    fastapi_apps = mount.fastapi_apps(airflow_version)
    react_apps = mount.react_apps(airflow_version)
