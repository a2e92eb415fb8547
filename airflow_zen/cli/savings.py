"""`airflow zen cache stats`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.opened import open_stack_for
from airflow_zen.lineage.totals import RunTotals, RunTotalsReader, savings_summary, sum_totals

_GROUP_KEYS: dict[str, Callable[[RunTotals], tuple[str, ...]]] = {
    "run": lambda totals: (totals.dag_id, totals.run_id),
    "dag": lambda totals: (totals.dag_id,),
    "week": lambda totals: (totals.dag_id, _iso_week(totals.ended)),
}
_HEADINGS = {"run": ("dag", "run"), "dag": ("dag",), "week": ("dag", "week")}


@suppress_logs_and_warning
def show_savings(args: Any) -> None:
    """Print what reuse saved: by DAG, week or DAG run, and one line for all of them together."""
    from airflow.cli.simple_table import AirflowConsole

    totals = RunTotalsReader(open_stack_for(args).store.transport)
    if args.backfill is None:
        found = list(totals.read(args.dag_id))
    else:
        from airflow_zen.plugin.backfills import backfill_run_states

        runs = backfill_run_states(args.backfill)
        of_names = totals.read(args.dag_id, {run_id for _, run_id in runs})
        found = [each for each in of_names if (each.dag_id, each.run_id) in runs]
    if not found:
        raise SystemExit("No step run is recorded here.")
    AirflowConsole().print_as(data=_group_rows(found, args.by), output=args.output)
    if args.output == "table":
        print(savings_summary(found, "partitions" if args.backfill is not None else "DAG runs"))


def _group_rows(found: list[RunTotals], by: str) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], list[RunTotals]] = defaultdict(list)
    for totals in found:
        groups[_GROUP_KEYS[by](totals)].append(totals)
    return [
        _totals_row(dict(zip(_HEADINGS[by], names, strict=True)), sum_totals(groups[names])) for names in sorted(groups)
    ]


def _totals_row(names: dict[str, str], totals: RunTotals) -> dict[str, Any]:
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


def _iso_week(ended: float) -> str:
    """Name the ISO week of a moment: `2026-W05`."""
    year, week, _ = datetime.fromtimestamp(ended, UTC).isocalendar()
    return f"{year}-W{week:02}"
