"""`airflow zen lineage …`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.opened import stack_of
from airflow_zen.cli.progress import progress
from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.quantities import count_text
from airflow_zen.lineage.step_run import StepRunId
from airflow_zen.lineage.sync import settle, show_end
from airflow_zen.progress import Tell, counted
from airflow_zen.stack import Stack


@suppress_logs_and_warning
def sync(args: Any) -> None:
    """Deliver what is owed, close and draw the DAG runs that have ended; exit with 1 if anything is left."""
    stack = stack_of(args)
    if not isinstance(stack.lineage, MlflowRecorder):
        raise SystemExit("MLflow is not configured: set [zen] mlflow_conn_id or mlflow_tracking_uri.")
    with progress("Looking for what is owed") as tell:
        delivered, failed = _delivered(stack, stack.lineage, tell)
        unseen = [] if failed else [*_unshown(stack, stack.lineage, tell)]
    print(f"Delivered {count_text(len(delivered), 'step run')}.")
    for run, reason in failed.items():
        print(f"Not delivered: {run}: {reason}")
    for reason in unseen:
        print(reason)
    if failed or unseen:
        raise SystemExit(1)


def draw(args: Any) -> None:
    """Draw one DAG run anew on its parent run in MLflow."""
    stack = stack_of(args)
    if not isinstance(stack.lineage, MlflowRecorder):
        raise SystemExit("MLflow is not configured: set [zen] mlflow_conn_id or mlflow_tracking_uri.")
    try:
        drawn = stack.lineage.publish(args.dag_id, args.run_id, stack.records)
    except ZenError as error:
        raise SystemExit(str(error)) from error
    if not drawn:
        raise SystemExit(
            f"MLflow has no DAG run {args.run_id!r} of DAG {args.dag_id!r}; see `airflow zen lineage sync`."
        )
    print(f"Drawn: {args.dag_id} {args.run_id}.")


def _delivered(stack: Stack, recorder: MlflowRecorder, tell: Tell) -> tuple[list[StepRunId], dict[StepRunId, str]]:
    """Settle turn by turn until nothing more goes; what was set aside is tried again."""
    stack.records.owe_refused()
    delivered: list[StepRunId] = []
    failed: dict[StepRunId, str] = {}
    while True:
        delivery = settle(recorder, stack.records, stack.clock, tell)
        if delivery is None:
            raise SystemExit("Another process is delivering at this moment. Try again in a minute.")
        delivered += delivery.delivered
        failed |= dict(delivery.failed)
        if not delivery.delivered:
            return delivered, failed


def _unshown(stack: Stack, recorder: MlflowRecorder, tell: Tell) -> Iterator[str]:
    """Close and draw what MLflow shows as running although Airflow says it has ended; say what fails."""
    try:
        from airflow_zen.plugin.unheard import unheard_ends

        ends = [*unheard_ends(stack, recorder)]
        for run in counted(ends, "Closing DAG runs", tell, len(ends)):
            show_end(recorder, stack.records, run)
    except ZenError as error:
        yield f"Not shown: {error}"
    for run in stack.records.ended():
        yield f"Not shown: the end of {run.dag_id}/{run.run_id}"
