"""`airflow zen runs show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_DAG_ID

from airflow_zen.cli.command import STACK_AND_OUTPUT, argument, command
from airflow_zen.cli.output import Cell, bytes_cell, open_stack_for, print_rows, seconds_cell

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRun


@command("show", ARG_DAG_ID, argument("run_id", "The id of the DAG run"), *STACK_AND_OUTPUT)
def show_step_runs(args: Any) -> None:
    """Show the step runs of a DAG run.

    For each step run, in the order of their start: its state, whether its result was reused and why not, its duration and
    its outputs.
    """
    runs = sorted(open_stack_for(args).records.read_dag_run(args.dag_id, args.run_id), key=lambda run: run.started)
    if not runs:
        raise SystemExit(f"No step run of {args.dag_id}/{args.run_id} is recorded here. Is it in another --stack?")
    print_rows(map(_step_run_row, runs), args.output)


def _step_run_row(run: StepRun) -> dict[str, Any]:
    return {
        "step": run.id.task_id if run.id.map_index < 0 else f"{run.id.task_id}[{run.id.map_index}]",
        "try": run.id.try_number,
        "state": str(run.state),
        "cache": str(run.cache),
        "why": run.error or (f"of {run.origin}" if run.origin else run.why),
        "took": seconds_cell((run.ended or run.started) - run.started),
        "outputs": Cell({name: ref.digest for name, ref in run.outputs.items()}, _outputs_text(run)),
    }


def _outputs_text(run: StepRun) -> str:
    outputs = (
        f"{ref.name or name} {ref.shape} {bytes_cell(ref.size).text} {ref.digest[:12]}"
        for name, ref in run.outputs.items()
    )
    return "; ".join(" ".join(text.split()) for text in outputs)
