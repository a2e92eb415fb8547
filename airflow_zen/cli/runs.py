"""`airflow zen runs show`."""

from __future__ import annotations

from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.opened import stack_of
from airflow_zen.cli.table import show as show_rows
from airflow_zen.lineage.quantities import bytes_text, seconds_text
from airflow_zen.lineage.step_run import StepRun


@suppress_logs_and_warning
def show(args: Any) -> None:
    """Print the step runs of a DAG run in the order in which they started: what became of each, and why."""
    runs = sorted(stack_of(args).records.of(args.dag_id, args.run_id), key=lambda run: run.started)
    if not runs:
        raise SystemExit(f"No step run of {args.dag_id}/{args.run_id} is recorded here. Look into another --stack?")
    show_rows([_row(run, args.output) for run in runs], args.output)


def _row(run: StepRun, output: str) -> dict[str, Any]:
    plain = output in ("json", "yaml")
    took = (run.ended or run.started) - run.started
    return {
        "step": run.id.task_id if run.id.map_index < 0 else f"{run.id.task_id}[{run.id.map_index}]",
        "try": run.id.try_number,
        "state": str(run.state),
        "cache": run.cache,
        "why": run.error or (f"of {run.origin}" if run.origin else run.why),
        "took": took if plain else seconds_text(took),
        "outputs": _digests(run) if plain else _outputs(run),
    }


def _digests(run: StepRun) -> dict[str, str]:
    return {name: ref.digest for name, ref in run.outputs.items()}


def _outputs(run: StepRun) -> str:
    told = (
        f"{ref.name or name} {ref.shape} {bytes_text(ref.size)} {ref.digest[:12]}" for name, ref in run.outputs.items()
    )
    return "; ".join(" ".join(text.split()) for text in told)
