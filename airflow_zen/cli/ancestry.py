"""`airflow zen lineage show`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.opened import open_stack_for
from airflow_zen.cli.progress import show_progress
from airflow_zen.errors import LineageNotFound, SettingsError
from airflow_zen.lineage.limits import short_digest
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.queries import Ancestry, FoundArtifact, FoundRun, ancestry_of, ancestry_of_content
from airflow_zen.lineage.recorded import ancestry_from_records
from airflow_zen.lineage.refusals import MlflowUnavailable
from airflow_zen.stack import Stack

if TYPE_CHECKING:
    from rich.tree import Tree

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
