"""`airflow zen lineage …`."""

from __future__ import annotations

from typing import Any

from airflow_zen.lineage.close import close_parent
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.step_run import StepState
from airflow_zen.lineage.sync import deliver
from airflow_zen.settings import open_stack


def sync(args: Any) -> None:
    """Deliver what is owed, and close the MLflow runs of DAG runs that have ended; exit with 1 if any is left."""
    stack = open_stack()
    if not isinstance(stack.lineage, MlflowRecorder):
        raise SystemExit("MLflow is not configured: set [zen] mlflow_conn_id or mlflow_tracking_uri.")
    delivery = deliver(stack.lineage, stack.records)
    for dag_id, run_id in delivery.dag_runs:
        _close(stack.lineage, dag_id, run_id)
    print(f"Delivered {len(delivery.delivered)} step runs.")
    for run, reason in delivery.failed:
        print(f"Not delivered: {run}: {reason}")
    if delivery.failed:
        raise SystemExit(1)


def _close(recorder: MlflowRecorder, dag_id: str, run_id: str) -> None:
    """End the parent run as the DAG run ended in Airflow; one that still runs, or that Airflow forgot, stays."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        run = session.query(DagRun).filter_by(dag_id=dag_id, run_id=run_id).one_or_none()
        ended = run.end_date.timestamp() if run is not None and run.end_date else None
        failed = run is not None and str(run.state) == "failed"
    if ended is not None:
        close_parent(recorder.rest, dag_id, run_id, StepState.FAILED if failed else StepState.FINISHED, ended)
