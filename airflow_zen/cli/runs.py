"""`airflow zen runs …`: DAG runs and their step runs, as they are recorded in the artifact root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_DAG_ID

from airflow_zen.cli.command import STACK_AND_OUTPUT, argument, command, open_stack_for
from airflow_zen.cli.output import Cell, bytes_cell, print_rows, seconds_cell, show_progress

if TYPE_CHECKING:
    from airflow_zen.lineage.savings import RunTotals
    from airflow_zen.runs.step_run import ResourceUsage, StepRun


@command(
    "runs list",
    argument("dag_id", "The DAG (default: all)", nargs="?"),
    argument("--limit", "Maximum number of DAG runs", type=int, default=20),
    *STACK_AND_OUTPUT,
)
def list_dag_runs(args: Any) -> None:
    """List DAG runs with their steps, newest first."""
    from airflow_zen.lineage.savings import RunTotalsReader

    reader = RunTotalsReader(open_stack_for(args).store.transport)
    with show_progress("Reading runs", args.output):
        found = sorted(reader.read(args.dag_id, limit=args.limit), key=lambda totals: totals.ended, reverse=True)
    if not found:
        raise SystemExit(f"No step run of {args.dag_id or 'any DAG'} is recorded here. Is it in another --stack?")
    print_rows(map(_totals_row, found), args.output)


@command(
    "runs show",
    ARG_DAG_ID,
    argument("run_id", "The id of the DAG run (default: the latest)", nargs="?"),
    *STACK_AND_OUTPUT,
)
def show_step_runs(args: Any) -> None:
    """Show the step runs of a DAG run.

    For each step run that has ended, in the order of their start: its state, whether its result was reused and why not, its
    duration, what it used and its outputs.
    """
    records = open_stack_for(args).records
    run_id = args.run_id or records.latest_dag_run(args.dag_id)
    runs = sorted(records.read_dag_run(args.dag_id, run_id), key=lambda run: run.started) if run_id else []
    if not runs:
        which = f"{args.dag_id}/{run_id}" if run_id else args.dag_id
        raise SystemExit(f"No step run of {which} is recorded here. Did it end, and is it in this --stack?")
    if args.output == "table" and not args.run_id:
        print(run_id)
    print_rows(map(_step_run_row, runs), args.output)


def _totals_row(totals: RunTotals) -> dict[str, Any]:
    from airflow_zen.markup import iso_time

    return {
        "dag": totals.dag_id,
        "run": totals.run_id,
        "ended": iso_time(totals.ended),
        **{name: getattr(totals, name) for name in ("steps", "reused", "computed", "failed")},
        "took": seconds_cell(totals.seconds_computed),
        "saved": seconds_cell(totals.seconds_saved),
    }


def _step_run_row(run: StepRun) -> dict[str, Any]:
    texts = (
        f"{ref.name or name} {ref.shape} {bytes_cell(ref.size).text} {ref.digest[:12]}"
        for name, ref in run.outputs.items()
    )
    return {
        "step": run.id.task_id if run.id.map_index < 0 else f"{run.id.task_id}[{run.id.map_index}]",
        "try": run.id.try_number,
        "state": str(run.state),
        "cache": str(run.cache),
        "why": run.error or (f"of {run.origin}" if run.origin else run.why),
        "took": seconds_cell((run.ended or run.started) - run.started),
        "used": _used_cell(run.resources),
        "outputs": Cell(
            {name: ref.digest for name, ref in run.outputs.items()}, "; ".join(" ".join(text.split()) for text in texts)
        ),
    }


def _used_cell(used: ResourceUsage) -> Cell:
    """Return what a step used, as `318 MB, 1.2 s CPU` above `4 MB read, 2 MB written`; a reused result used nothing."""
    sizes = {"GPU": used.gpu_memory, "read": used.read_bytes, "written": used.written_bytes}
    parts = [f"{bytes_cell(size).text} {name}" for name, size in sizes.items() if size]
    text = (
        f"{bytes_cell(used.peak_memory).text}, {seconds_cell(used.cpu_seconds).text} CPU\n{', '.join(parts)}".rstrip()
    )
    return Cell({name: getattr(used, name) for name in used.__struct_fields__}, text if used.is_known else "")
