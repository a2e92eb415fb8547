"""`airflow zen artifacts prune`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.output import open_stack_for, show_progress
from airflow_zen.lineage.recorder import NullRecorder
from airflow_zen.lineage.savings import format_bytes
from airflow_zen.plugin.finalize import active_dag_runs
from airflow_zen.pruning.collect import prune_stack
from airflow_zen.pruning.retention import Retention

if TYPE_CHECKING:
    from airflow_zen.pruning.report import PruneReport


@suppress_logs_and_warning
def prune_artifacts(args: Any) -> None:
    """Delete what nobody refers to, or say with --dry-run what would be; print who holds the rest."""
    from airflow.cli.simple_table import AirflowConsole

    if not (args.unreferenced or args.older_than or args.keep_last):
        raise SystemExit(
            "Say what may go: --unreferenced for what nothing refers to; --older-than 90d and --keep-last 5 for old runs, "
            "cache entries and versions as well."
        )
    retention = Retention.parse(args.older_than, args.keep_last, args.grace, args.expire_mlflow_runs)
    stack = open_stack_for(args)
    stack = replace(stack, lineage=NullRecorder()) if args.without_mlflow else stack
    with show_progress("Looking who holds what", args.output) as on_progress:
        report = prune_stack(stack, retention, active_dag_runs(), dry_run=args.dry_run, on_progress=on_progress)
    if args.output == "table":
        print(report)
    AirflowConsole().print_as(data=_report_rows(report, args.output), output=args.output)


def _report_rows(report: PruneReport, output: str) -> list[dict[str, Any]]:
    format_size = format_bytes if output in ("table", "plain") else int
    rows = [
        {
            "held by": each.referrer.kind,
            "name": each.referrer.name,
            "artifacts": each.total.artifacts,
            "bytes": format_size(each.total.size),
            "held by it alone": format_size(each.exclusive.size),
        }
        for each in report.usage_by_referrer
    ]
    if output in ("table", "plain"):
        return rows
    sums = {name: getattr(report, name) for name in ("kept", "condemned", "deleted", "leftovers")}
    return [
        *({"what": name, "artifacts": count.artifacts, "bytes": count.size} for name, count in sums.items()),
        *({"what": "held", **row} for row in rows),
    ]
