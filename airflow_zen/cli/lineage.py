"""`airflow zen lineage …`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.output import open_stack_for, show_progress
from airflow_zen.errors import LineageNotFound, SettingsError, ZenError
from airflow_zen.lineage.ancestry import (
    Ancestry,
    FoundArtifact,
    FoundRun,
    ancestry_from_records,
    ancestry_of,
    ancestry_of_content,
)
from airflow_zen.lineage.mlflow.encoding import short_digest
from airflow_zen.lineage.mlflow.errors import MlflowUnavailable
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.sync import publish_finished_dag_run, sync_pending
from airflow_zen.lineage.savings import format_count
from airflow_zen.progress import ProgressCallback, track_items

if TYPE_CHECKING:
    from rich.tree import Tree

    from airflow_zen.runs.step_run import StepRunId
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
        from airflow_zen.plugin.finalize import missed_ends

        ends = [*missed_ends(stack, recorder)]
        for run in track_items(ends, "Closing DAG runs", on_progress, len(ends)):
            publish_finished_dag_run(recorder, stack.records, run)
    except ZenError as error:
        yield f"Not shown: {error}"
    for run in stack.records.finished_dag_runs():
        yield f"Not shown: the end of {run.dag_id}/{run.run_id}"


_DIGEST = re.compile(r"[0-9a-f]{16,64}")


@suppress_logs_and_warning
def show_ancestry(args: Any) -> None:
    """Print all that a model or an artifact was made from, as a tree or as JSON."""
    stack = open_stack_for(args)
    with show_progress("Walking back", args.output):
        target, ancestry = _find_ancestry(args.target, stack)
    tree = _step_tree(ancestry.runs[0], ancestry, set())
    if args.output == "table":
        _print_tree(args.target, target, tree)
    else:
        from airflow.cli.simple_table import AirflowConsole

        console = AirflowConsole()
        document = {"target": args.target, **({"digest": target} if target else {}), "made_by": tree}
        (console.print_as_yaml if args.output == "yaml" else console.print_as_json)(document)


def _find_ancestry(target: str, stack: Stack) -> tuple[str, Ancestry]:
    """Ask MLflow, or the records where it is not there; give the digest of an artifact with its ancestry."""
    recorder = stack.lineage if isinstance(stack.lineage, MlflowRecorder) else None
    if target.startswith("models:/"):
        if recorder is None:
            raise SettingsError("Models are MLflow's: set [zen] mlflow_conn_id or mlflow_tracking_uri.")
        return "", ancestry_of(target, recorder.rest)
    transport = stack.store.transport
    digest = target if _DIGEST.fullmatch(target) else stack.names.get(target).ref.digest
    if recorder is not None:
        try:
            return digest, ancestry_of_content(digest, recorder.rest)
        except (MlflowUnavailable, LineageNotFound):
            # The records know what MLflow has not got yet.
            pass
    return digest, ancestry_from_records(digest, transport)


def _step_tree(run: FoundRun, ancestry: Ancestry, seen: set[str]) -> dict[str, Any]:
    """Describe a run with its inputs; one that was described before is only named."""
    entry: dict[str, Any] = {
        "step": run.task_id or run.name,
        "dag": run.dag_id,
        "run": run.dag_run_id,
        "state": run.state,
        "started": datetime.fromtimestamp(run.started, UTC).isoformat(timespec="seconds"),
    }
    if run.run_id in seen:
        return {**entry, "seen": True}
    seen.add(run.run_id)
    return {**entry, "inputs": [_input_tree(artifact, run, ancestry, seen) for artifact in run.inputs]}


def _input_tree(artifact: FoundArtifact, reader: FoundRun, ancestry: Ancestry, seen: set[str]) -> dict[str, Any]:
    makers = [run for run in ancestry.runs if any(out.digest == artifact.digest for out in run.outputs)]
    others = [run for run in makers if run.run_id != reader.run_id]
    entry: dict[str, Any] = {"name": artifact.name, "digest": artifact.digest}
    return {**entry, "made_by": _step_tree(others[0], ancestry, seen)} if others else entry


def _print_tree(target_text: str, digest: str, step: dict[str, Any]) -> None:
    from airflow.cli.simple_table import AirflowConsole
    from rich.markup import escape
    from rich.tree import Tree

    tree = Tree(escape(f"{target_text} {short_digest(digest) if digest not in ('', target_text) else ''}".strip()))
    _add_branch(tree, step)
    AirflowConsole(highlight=False).print(tree)


def _add_branch(tree: Tree, step: dict[str, Any]) -> None:
    from rich.markup import escape

    entry = f"{step['step']} · {step['dag']} {step['run']} · {step['started']} · {step['state']}"
    branch = tree.add(escape(entry) + (" (see above)" if step.get("seen") else ""))
    for artifact in step.get("inputs", ()):
        leaf = branch.add(escape(f"{artifact['name']} {artifact['digest']}"))
        if "made_by" in artifact:
            _add_branch(leaf, artifact["made_by"])
        else:
            leaf.label = f"{leaf.label} (raw)"
