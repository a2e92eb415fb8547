"""`airflow zen artifacts prune`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.opened import stack_of
from airflow_zen.cli.progress import progress
from airflow_zen.lineage.quantities import bytes_text
from airflow_zen.lineage.recorder import NullRecorder
from airflow_zen.plugin.unfinished import unfinished_runs
from airflow_zen.pruning.prune import prune as prune_stack
from airflow_zen.pruning.report import PruneReport
from airflow_zen.pruning.retention import Retention, duration


@suppress_logs_and_warning
def prune(args: Any) -> None:
    """Delete what nobody refers to, or say with --dry-run what would be; print who holds the rest."""
    from airflow.cli.simple_table import AirflowConsole

    if not (args.unreferenced or args.older_than or args.keep_last):
        raise SystemExit(
            "Say what may go: --unreferenced for what nothing refers to; --older-than 90d and --keep-last 5 for old runs, "
            "cache entries and versions as well."
        )
    retention = Retention(
        older_than=duration(args.older_than) if args.older_than else None,
        keep_last=args.keep_last,
        grace=duration(args.grace),
        expire_mlflow_runs=args.expire_mlflow_runs,
    )
    stack = stack_of(args)
    stack = replace(stack, lineage=NullRecorder()) if args.without_mlflow else stack
    with progress("Looking who holds what", args.output) as tell:
        report = prune_stack(stack, retention, unfinished_runs(), dry_run=args.dry_run, tell=tell)
    if args.output == "table":
        print(report)
    AirflowConsole().print_as(data=_rows(report, args.output), output=args.output)


def _rows(report: PruneReport, output: str) -> list[dict[str, Any]]:
    as_text = bytes_text if output in ("table", "plain") else int
    rows = [
        {
            "held by": each.holder.kind,
            "name": each.holder.name,
            "artifacts": each.all.artifacts,
            "bytes": as_text(each.all.size),
            "held by it alone": as_text(each.alone.size),
        }
        for each in report.held
    ]
    if output in ("table", "plain"):
        return rows
    sums = {name: getattr(report, name) for name in ("kept", "condemned", "deleted", "leftovers")}
    return [
        *({"what": name, "artifacts": tally.artifacts, "bytes": tally.size} for name, tally in sums.items()),
        *({"what": "held", **row} for row in rows),
    ]
