"""`airflow zen artifacts prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import STACK_AND_OUTPUT, argument, command, open_stack_for
from airflow_zen.cli.output import bytes_cell, is_machine_readable, print_rows, show_progress

if TYPE_CHECKING:
    from airflow_zen.pruning.collect import PruneReport


@command(
    "artifacts prune",
    argument("--unreferenced", "Delete what has no reference", action="store_true"),
    argument("--older-than", "Delete runs, cache entries and versions of this age too, such as 90d"),
    argument("--keep-last", "Keep this number of newest versions of each name", type=int),
    argument("--grace", "Keep what is younger; delete unreferenced artifacts after this time", default="1d"),
    argument("--expire-mlflow-runs", "Delete DAG runs of that age in MLflow too", action="store_true"),
    argument("--without-mlflow", "Ignore references from MLflow", action="store_true"),
    argument("--dry-run", "Report what would be deleted, and delete nothing", action="store_true"),
    *STACK_AND_OUTPUT,
)
def prune_artifacts(args: Any) -> None:
    """Delete artifacts without references, and report what refers to the rest.

    Versions, DAG runs, cache entries and MLflow refer to artifacts. Artifacts without a reference are noted; a later
    prune deletes them. It is safe to prune while tasks run.
    """
    from msgspec.structs import replace

    from airflow_zen.lineage.recorder import NullRecorder
    from airflow_zen.plugin.database import active_dag_runs
    from airflow_zen.pruning.collect import prune_stack
    from airflow_zen.pruning.retention import Retention

    if not (args.unreferenced or args.older_than or args.keep_last):
        raise SystemExit(
            "Name what to delete: --unreferenced for artifacts without a reference; --older-than 90d and --keep-last 5 "
            "for old runs, cache entries and versions too."
        )
    retention = Retention.parse(args.older_than, args.keep_last, args.grace, args.expire_mlflow_runs)
    stack = open_stack_for(args)
    stack = replace(stack, lineage=NullRecorder()) if args.without_mlflow else stack
    with show_progress("Finding references", args.output) as on_progress:
        report = prune_stack(stack, retention, active_dag_runs(), dry_run=args.dry_run, on_progress=on_progress)
    if args.output == "table":
        print(report)
    print_rows(_prune_rows(report, args.output), args.output)


def _prune_rows(report: PruneReport, output: str) -> list[dict[str, Any]]:
    rows = [
        {
            "held by": each.referrer.kind,
            "name": each.referrer.name,
            "artifacts": each.total.artifacts,
            "bytes": bytes_cell(each.total.size),
            "held by it alone": bytes_cell(each.exclusive.size),
        }
        for each in report.usage_by_referrer
    ]
    if not is_machine_readable(output):
        return rows
    sums = {name: getattr(report, name) for name in ("kept", "unreferenced", "deleted", "leftovers")}
    return [
        *({"what": name, "artifacts": count.artifacts, "bytes": count.size} for name, count in sums.items()),
        *({"what": "held", **row} for row in rows),
    ]
