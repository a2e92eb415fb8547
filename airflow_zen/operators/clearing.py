"""Tell a task that a person cleared from one that Airflow retries, and from one that a backfill runs again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_zen.lineage.records import StepRunRecords

if TYPE_CHECKING:
    from airflow_zen.operators.ml_step import MLStepOperator


def was_cleared_by_user(operator: MLStepOperator, context: Any, records: StepRunRecords) -> bool:
    """Tell whether a person asked for this task to run again.

    Clearing raises the number of tries that Airflow allows. A backfill that reprocesses a DAG run clears all of
    its tasks, and wants of them what has changed: in its runs a task is cleared by hand when a step above it
    was not cleared with it. That takes two requests for each step above, and only there.
    """
    ti = context["ti"]
    if int(getattr(ti, "max_tries", 0) or 0) <= int(operator.retries or 0):
        return False
    if not _is_backfill(context["dag_run"]):
        return True
    current_clear_number = clear_number(context)
    upstream_runs = [
        records.latest_try(ti.dag_id, ti.run_id, task_id) for task_id in sorted(operator.upstream_task_ids)
    ]
    return any(run is not None and run.clear_number < current_clear_number for run in upstream_runs)


def clear_number(context: Any) -> int:
    """Say how often tasks of this DAG run have been cleared."""
    return int(getattr(context["dag_run"], "clear_number", 0) or 0)


def _is_backfill(dag_run: Any) -> bool:
    return str(getattr(dag_run.run_type, "value", dag_run.run_type)) == "backfill"
