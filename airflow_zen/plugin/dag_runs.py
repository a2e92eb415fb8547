"""Listen for the end of DAG runs, and end their parent runs in MLflow, without stalling the scheduler."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from airflow_zen.lineage.step_run import StepState

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger("airflow_zen.plugin")


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """End the parent run as FINISHED."""
    _close_later(dag_run, StepState.FINISHED)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """End the parent run as FAILED."""
    _close_later(dag_run, StepState.FAILED)


def _close_later(dag_run: Any, state: StepState) -> None:
    """Do the talking on a thread of its own: the scheduler must never wait for MLflow."""
    if not _has_steps(dag_run):
        return
    try:
        from airflow_zen.settings import Settings, tracking_server

        server = tracking_server(Settings.read())
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a setting, the scheduler goes on
        log.warning("The MLflow parent run of %s/%s stays open: %s", dag_run.dag_id, dag_run.run_id, error)
        return
    if server is not None:
        arguments = (server, dag_run.dag_id, dag_run.run_id, state, time.time())
        threading.Thread(target=_close, args=arguments, name="airflow-zen-close", daemon=True).start()


def _has_steps(dag_run: Any) -> bool:
    """Tell whether the DAG holds a step; True where the DAG is not at hand."""
    tasks = getattr(getattr(dag_run, "dag", None), "tasks", None)
    if tasks is None:
        return True
    return any("@ml_step" in (getattr(t, "operator_name", ""), getattr(t, "task_type", "")) for t in tasks)


def _close(server: Any, dag_id: str, run_id: str, state: StepState, ended: float) -> None:
    from airflow_zen.lineage.close import close_parent
    from airflow_zen.lineage.rest import MlflowRest

    try:
        close_parent(MlflowRest(server), dag_id, run_id, state, ended)
    except Exception as error:  # noqa: BLE001 - whatever MLflow answers, the scheduler goes on
        log.warning("The MLflow parent run of %s/%s stays open: %s", dag_id, run_id, error)
