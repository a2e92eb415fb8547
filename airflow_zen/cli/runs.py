"""`airflow zen runs show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.output import open_stack_for, print_rows
from airflow_zen.lineage.savings import format_bytes, format_seconds

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRun


@suppress_logs_and_warning
def show_step_runs(args: Any) -> None:
    """Print the step runs of a DAG run in the order in which they started: what became of each, and why."""
    runs = sorted(open_stack_for(args).records.read_dag_run(args.dag_id, args.run_id), key=lambda run: run.started)
    if not runs:
        raise SystemExit(f"No step run of {args.dag_id}/{args.run_id} is recorded here. Look into another --stack?")
    print_rows([_step_run_row(run, args.output) for run in runs], args.output)


def _step_run_row(run: StepRun, output: str) -> dict[str, Any]:
    plain = output in ("json", "yaml")
    took = (run.ended or run.started) - run.started
    return {
        "step": run.id.task_id if run.id.map_index < 0 else f"{run.id.task_id}[{run.id.map_index}]",
        "try": run.id.try_number,
        "state": str(run.state),
        "cache": str(run.cache),
        "why": run.error or (f"of {run.origin}" if run.origin else run.why),
        "took": took if plain else format_seconds(took),
        "outputs": _digests(run) if plain else _outputs_text(run),
    }


def _digests(run: StepRun) -> dict[str, str]:
    return {name: ref.digest for name, ref in run.outputs.items()}


def _outputs_text(run: StepRun) -> str:
    outputs = (
        f"{ref.name or name} {ref.shape} {format_bytes(ref.size)} {ref.digest[:12]}"
        for name, ref in run.outputs.items()
    )
    return "; ".join(" ".join(text.split()) for text in outputs)
