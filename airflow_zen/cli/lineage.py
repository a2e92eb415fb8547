"""`airflow zen lineage …`: the ancestry of artifacts and models, and their lineage in MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_VERBOSE

from airflow_zen.cli.command import ARG_STACK, STACK_AND_OUTPUT, argument, command, open_stack_for
from airflow_zen.cli.output import show_progress
from airflow_zen.errors import SettingsError, ZenError

if TYPE_CHECKING:
    from airflow_zen.lineage.found_runs import Ancestry
    from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
    from airflow_zen.progress import ProgressCallback
    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.stack import Stack

_DIGEST = re.compile(r"[0-9a-f]{16,64}")


@command(
    "lineage show",
    argument("target", "models:/NAME/VERSION, models:/NAME@ALIAS, an artifact's name (DAG/TASK.OUTPUT) or digest"),
    *STACK_AND_OUTPUT,
)
def show_ancestry(args: Any) -> None:
    """Show all inputs of a model or an artifact.

    Follow the steps and their inputs back to the raw data, over all DAGs, and print them as a tree.
    """
    from airflow.cli.simple_table import AirflowConsole

    from airflow_zen.lineage.mlflow.encoding import short_digest
    from airflow_zen.markup import Tree

    stack = open_stack_for(args)
    with show_progress("Reading lineage", args.output):
        digest, ancestry = _find_ancestry(args.target, stack)
    if args.output == "table":
        shown = short_digest(digest) if digest not in ("", args.target) else ""
        print(Tree(f"{args.target} {shown}", (ancestry.to_tree(),)))
        return
    console = AirflowConsole()
    document = {"target": args.target, **({"digest": digest} if digest else {}), "made_by": ancestry.to_dict()}
    (console.print_as_yaml if args.output == "yaml" else console.print_as_json)(document)


@command("lineage sync", ARG_STACK, ARG_VERBOSE)
def sync_lineage(args: Any) -> None:
    """Send pending step runs to MLflow.

    Send the step runs that MLflow missed while it was unavailable, then close and draw the DAG runs that have ended.
    A second call changes nothing. Exit code 1 if anything is left.
    """
    from airflow_zen.markup import format_count

    stack = open_stack_for(args)
    recorder = _mlflow_recorder(stack)
    with show_progress("Finding pending step runs") as on_progress:
        delivered, problems = _deliver_pending(stack, recorder, on_progress)
        problems += [] if problems else _close_ended_runs(stack, recorder, on_progress)
    print(f"Delivered {format_count(delivered, 'step run')}.")
    for problem in problems:
        print(problem)
    if problems:
        raise SystemExit(1)


@command("lineage draw", argument("dag_id", "The DAG"), argument("run_id", "The DAG run"), ARG_STACK)
def draw_dag_run(args: Any) -> None:
    """Draw the lineage graph of a DAG run again.

    Draw it on the parent run in MLflow, as at the end of the DAG run.
    """
    stack = open_stack_for(args)
    if not _mlflow_recorder(stack).publish_graph(args.dag_id, args.run_id, stack.records):
        raise SystemExit(
            f"MLflow has no DAG run {args.run_id!r} of DAG {args.dag_id!r}; see `airflow zen lineage sync`."
        )
    print(f"Drawn: {args.dag_id} {args.run_id}.")


def _mlflow_recorder(stack: Stack) -> MlflowRecorder:
    from airflow_zen.lineage.mlflow.recorder import MlflowRecorder

    if not isinstance(stack.lineage, MlflowRecorder):
        raise SettingsError("MLflow is not configured: set [zen] mlflow_conn_id or mlflow_tracking_uri.")
    return stack.lineage


def _deliver_pending(stack: Stack, recorder: MlflowRecorder, on_progress: ProgressCallback) -> tuple[int, list[str]]:
    """Deliver until no more step runs can be delivered, rejected ones too; return their number and the failures."""
    from airflow_zen.lineage.mlflow.sync import sync_pending

    stack.records.requeue_rejected()
    delivered = 0
    failed: dict[StepRunId, str] = {}
    while delivery := sync_pending(recorder, stack.records, stack.clock, on_progress):
        delivered += len(delivery.delivered)
        failed |= dict(delivery.failed)
        if not delivery.delivered:
            return delivered, [f"Not delivered: {run}: {reason}" for run, reason in failed.items()]
    raise SystemExit(
        "Another process is delivering now. Run this again when it has ended; one that was killed keeps its lock for 15 minutes."
    )


def _close_ended_runs(stack: Stack, recorder: MlflowRecorder, on_progress: ProgressCallback) -> Iterator[str]:
    """Close and draw DAG runs that have ended in Airflow but run in MLflow; yield the failures."""
    from airflow_zen.lineage.mlflow.sync import publish_finished_dag_run
    from airflow_zen.plugin.finalize import missed_ends
    from airflow_zen.progress import track_items

    try:
        ends = [*missed_ends(stack, recorder)]
        for run in track_items(ends, "Closing DAG runs", on_progress, len(ends)):
            publish_finished_dag_run(recorder, stack.records, run)
    except ZenError as error:
        yield f"Not shown: {error}"
    for run in stack.records.finished_dag_runs():
        yield f"Not shown: the end of {run.dag_id}/{run.run_id}"


def _find_ancestry(target: str, stack: Stack) -> tuple[str, Ancestry]:
    """Return the digest of an artifact (empty for a model) and the ancestry, from MLflow or else from the records."""
    from airflow_zen.errors import LineageNotFound
    from airflow_zen.lineage.ancestry import ancestry_from_records, ancestry_of, ancestry_of_content
    from airflow_zen.lineage.mlflow.errors import MlflowUnavailable

    if target.startswith("models:/"):
        return "", ancestry_of(target, _mlflow_recorder(stack).rest)
    digest, name = (target, "") if _DIGEST.fullmatch(target) else _named_artifact(target, stack)
    try:
        return digest, ancestry_of_content(digest, _mlflow_recorder(stack).rest, name)
    except (SettingsError, MlflowUnavailable, LineageNotFound):
        # The records also contain what is not in MLflow yet.
        return digest, ancestry_from_records(digest, stack.store.transport, name)


def _named_artifact(name: str, stack: Stack) -> tuple[str, str]:
    """Return digest and name of the latest version; the index of a mapped instance is no part of the name."""
    ref = stack.names.get(name).ref
    return ref.digest, ref.name
