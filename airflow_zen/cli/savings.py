"""`airflow zen cache stats`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.opened import stack_of
from airflow_zen.lineage.totals import RunTotals, TotalsOfRuns, line, summed

_GROUPS: dict[str, Callable[[RunTotals], tuple[str, ...]]] = {
    "run": lambda totals: (totals.dag_id, totals.run_id),
    "dag": lambda totals: (totals.dag_id,),
    "week": lambda totals: (totals.dag_id, _week(totals.ended)),
}
_HEADINGS = {"run": ("dag", "run"), "dag": ("dag",), "week": ("dag", "week")}


@suppress_logs_and_warning
def stats(args: Any) -> None:
    """Print what reuse saved: by DAG, week or DAG run, and one line for all of them together."""
    from airflow.cli.simple_table import AirflowConsole

    totals = TotalsOfRuns(stack_of(args).store.transport)
    if args.backfill is None:
        found = list(totals.of(args.dag_id))
    else:
        from airflow_zen.plugin.backfills import runs_of_backfill

        runs = runs_of_backfill(args.backfill)
        of_names = totals.of(args.dag_id, {run_id for _, run_id in runs})
        found = [each for each in of_names if (each.dag_id, each.run_id) in runs]
    if not found:
        raise SystemExit("No step run is recorded here.")
    AirflowConsole().print_as(data=_rows(found, args.by), output=args.output)
    if args.output == "table":
        print(line(found, "partitions" if args.backfill is not None else "DAG runs"))


def _rows(found: list[RunTotals], by: str) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], list[RunTotals]] = defaultdict(list)
    for totals in found:
        groups[_GROUPS[by](totals)].append(totals)
    return [_row(dict(zip(_HEADINGS[by], names, strict=True)), summed(groups[names])) for names in sorted(groups)]


def _row(names: dict[str, str], totals: RunTotals) -> dict[str, Any]:
    return {
        **names,
        "runs": totals.runs,
        "steps": totals.steps,
        "reused": totals.reused,
        "computed": totals.computed,
        "failed": totals.failed,
        "seconds computed": round(totals.seconds_computed, 1),
        "seconds saved": round(totals.seconds_saved, 1),
    }


def _week(ended: float) -> str:
    """Name the ISO week of a moment: `2026-W05`."""
    year, week, _ = datetime.fromtimestamp(ended, UTC).isocalendar()
    return f"{year}-W{week:02}"
