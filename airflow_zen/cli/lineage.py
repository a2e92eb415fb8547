"""`airflow zen lineage …`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.opened import open_stack_for
from airflow_zen.cli.progress import show_progress
from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.quantities import format_count
from airflow_zen.lineage.step_run import StepRunId
from airflow_zen.lineage.sync import publish_finished_dag_run, sync_pending
from airflow_zen.progress import ProgressCallback, track_items
from airflow_zen.stack import Stack


@suppress_logs_and_warning
def sync_lineage(args: Any) -> None:
    """Deliver what is owed, close and draw the DAG runs that have ended; exit with 1 if anything is left."""
    stack = open_stack_for(args)
    if not isinstance(stack.lineage, MlflowRecorder):
        raise SystemExit("MLflow is not configured: set [zen] mlflow_conn_id or mlflow_tracking_uri.")
    with show_progress("Looking for what is owed") as on_progress:
        delivered, failed = _deliver_pending(stack, stack.lineage, on_progress)
        problems = [] if failed else [*_close_ended_runs(stack, stack.lineage, on_progress)]
    print(f"Delivered {format_count(len(delivered), 'step run')}.")
    for run, reason in failed.items():
        print(f"Not delivered: {run}: {reason}")
    for reason in problems:
        print(reason)
    if failed or problems:
        raise SystemExit(1)


def draw_dag_run(args: Any) -> None:
    """Draw one DAG run anew on its parent run in MLflow."""
    stack = open_stack_for(args)
    if not isinstance(stack.lineage, MlflowRecorder):
        raise SystemExit("MLflow is not configured: set [zen] mlflow_conn_id or mlflow_tracking_uri.")
    try:
        drawn = stack.lineage.publish_graph(args.dag_id, args.run_id, stack.records)
    except ZenError as error:
        raise SystemExit(str(error)) from error
    if not drawn:
        raise SystemExit(
            f"MLflow has no DAG run {args.run_id!r} of DAG {args.dag_id!r}; see `airflow zen lineage sync`."
        )
    print(f"Drawn: {args.dag_id} {args.run_id}.")


def _deliver_pending(
    stack: Stack, recorder: MlflowRecorder, on_progress: ProgressCallback
) -> tuple[list[StepRunId], dict[StepRunId, str]]:
    """Settle turn by turn until nothing more goes; what was set aside is tried again."""
    stack.records.requeue_rejected()
    delivered: list[StepRunId] = []
    failed: dict[StepRunId, str] = {}
    while True:
        delivery = sync_pending(recorder, stack.records, stack.clock, on_progress)
        if delivery is None:
            raise SystemExit("Another process is delivering at this moment. Try again in a minute.")
        delivered += delivery.delivered
        failed |= dict(delivery.failed)
        if not delivery.delivered:
            return delivered, failed


def _close_ended_runs(stack: Stack, recorder: MlflowRecorder, on_progress: ProgressCallback) -> Iterator[str]:
    """Close and draw what MLflow shows as running although Airflow says it has ended; say what fails."""
    try:
        from airflow_zen.plugin.unheard import missed_ends

        ends = [*missed_ends(stack, recorder)]
        for run in track_items(ends, "Closing DAG runs", on_progress, len(ends)):
            publish_finished_dag_run(recorder, stack.records, run)
    except ZenError as error:
        yield f"Not shown: {error}"
    for run in stack.records.finished_dag_runs():
        yield f"Not shown: the end of {run.dag_id}/{run.run_id}"
