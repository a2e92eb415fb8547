"""`airflow zen cache …`: the step cache."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_DAG_ID, ARG_TASK_ID, ARG_VERBOSE

from airflow_zen.cli.command import ARG_STACK, STACK_AND_OUTPUT, argument, command, open_stack_for
from airflow_zen.cli.output import Cell, bytes_cell, print_rows, seconds_cell, show_progress

if TYPE_CHECKING:
    from airflow_zen.caching.step_cache import CacheEntry, KeyRecord, StepCache
    from airflow_zen.lineage.savings import RunTotals

_DAG = argument("dag_id", "The DAG (default: all)", nargs="?")
_RUN = argument("--run", "The id of the DAG run (default: the latest computed result)")


@command("cache explain", ARG_DAG_ID, ARG_TASK_ID, _RUN, ARG_STACK)
def explain_task(args: Any) -> None:
    """Explain why a task was computed and not reused.

    Compare the cache key of a task's latest result, or of its result in a run, with the most similar earlier key.
    """
    from airflow_zen.caching.step_cache import nearest_record

    stack = open_stack_for(args)
    # A hit is in no history, because nothing was computed.
    for record in stack.records.read_dag_run(args.dag_id, args.run) if args.run else ():
        if record.id.task_id == args.task_id:
            reused = f", reused from {record.origin}" if record.origin else ""
            print(f"{record.id}: {record.cache}{reused}{f' ({record.why})' if record.why else ''}")
    history = stack.cache.history.recent_records(args.dag_id, args.task_id)
    # An origin is `dag/run/task/map index/try`, and a run id may contain slashes.
    runs = ["/".join(entry.origin.split("/")[1:-3]) for entry in history]
    if not history or args.run not in (None, *runs):
        raise SystemExit(f"No computed result of {args.dag_id}/{args.task_id} is recorded for this run.")
    entry, *older = history[0 if args.run is None else runs.index(args.run) :]
    print(f"{entry.origin} computed {entry.key[:12]}")
    for line in _describe_differences(entry, nearest_record(entry.ingredients, older)):
        print(line)


@command(
    "cache stats",
    _DAG,
    argument("--by", "Print one row per DAG, week or run", choices=("dag", "week", "run"), default="dag"),
    argument("--backfill", "Only the runs of the backfill with this id", type=int),
    *STACK_AND_OUTPUT,
)
def show_savings(args: Any) -> None:
    """Show how many steps were reused, and the time that saved."""
    from airflow_zen.lineage.savings import RunTotalsReader, savings_summary

    totals = RunTotalsReader(open_stack_for(args).store.transport)
    if args.backfill is None:
        found = list(totals.read(args.dag_id))
    else:
        from airflow_zen.plugin.database import backfill_run_states

        runs = backfill_run_states(args.backfill)
        candidates = totals.read(args.dag_id, {run_id for _, run_id in runs})
        found = [each for each in candidates if (each.dag_id, each.run_id) in runs]
    if not found:
        raise SystemExit("No step run is recorded here.")
    print_rows(_group_rows(found, args.by), args.output)
    if args.output == "table":
        print(savings_summary(found, "DAG runs" if args.backfill is None else "partitions"))


@command("cache list", _DAG, *STACK_AND_OUTPUT)
def list_entries(args: Any) -> None:
    """List the cached results, newest first."""
    entries = _read_entries(open_stack_for(args).cache, args.dag_id, None, args.output)
    if not entries:
        raise SystemExit("No result is cached here.")
    print_rows(map(_entry_row, entries), args.output)


@command(
    "cache clear",
    _DAG,
    argument("task_id", "The task (default: all)", nargs="?"),
    argument("--older-than", "Only results older than this: 12h, 30d, 2w", metavar="AGE"),
    argument("--yes", "Do not ask for confirmation", action="store_true"),
    ARG_STACK,
    ARG_VERBOSE,
)
def clear_entries(args: Any) -> None:
    """Delete cached results, so that they are computed again.

    Delete entries of the step cache and their history. Artifacts stay, and running tasks are not affected.
    """
    from airflow_zen.caching.step_cache import task_of_entry
    from airflow_zen.markup import format_count
    from airflow_zen.pruning.retention import parse_duration

    stack = open_stack_for(args)
    entries = _read_entries(stack.cache, args.dag_id, args.task_id)
    if args.older_than is not None:
        latest = stack.clock() - parse_duration(args.older_than)
        entries = [entry for entry in entries if entry.created < latest]
    if not entries:
        print("Nothing to delete.")
        return
    summary = f"{format_count(len(entries), 'result')} of {format_count(len({*map(task_of_entry, entries)}), 'task')}"
    compute_time = seconds_cell(sum(entry.seconds for entry in entries)).text
    if not args.yes:
        _confirm(f"Delete {summary}, which took {compute_time} to compute? Artifacts stay.")
    with show_progress("Deleting") as on_progress:
        stack.cache.delete(entries, on_progress)
    print(f"Deleted {summary}; they took {compute_time} to compute. Their artifacts stay.")


def _describe_differences(now: KeyRecord, before: KeyRecord | None) -> Iterator[str]:
    from airflow_zen.caching.step_cache import changed_ingredients, text_diff

    if before is None:
        yield "There is no earlier result to compare with. The key consists of:"
        texts = {label: text for label, text in now.sources.items() if label.startswith("parameter ")}
        yield from (f"  {label}: {texts.get(label, value)}" for label, value in sorted(now.ingredients.items()))
        return
    yield f"Compared with {before.origin}:"
    for label, old, new in changed_ingredients(now.ingredients, before.ingredients):
        yield f"  {label}: {old or 'nothing'} → {new or 'nothing'}"
        yield from (f"    {line}" for line in text_diff(label, before, now))


def _read_entries(cache: StepCache, dag_id: str | None, task_id: str | None, output: str = "table") -> list[CacheEntry]:
    from airflow_zen.caching.step_cache import task_of_entry

    def matches(entry: CacheEntry) -> bool:
        dag, task = task_of_entry(entry)
        return dag_id in (None, dag) and task_id in (None, task)

    with show_progress("Reading the cache", output) as on_progress:
        found = filter(matches, cache.entries(on_progress))
        return sorted(found, key=lambda entry: entry.created, reverse=True)


def _entry_row(entry: CacheEntry) -> dict[str, Any]:
    from airflow_zen.caching.step_cache import task_of_entry
    from airflow_zen.markup import iso_time

    return {
        "task": "/".join(task_of_entry(entry)),
        "key": Cell(entry.key, entry.key[:12]),
        "computed by": entry.origin,
        "when": iso_time(entry.created),
        "took": seconds_cell(entry.seconds),
        "outputs": ", ".join(entry.outputs),
        "size": bytes_cell(sum(ref.size for ref in entry.outputs.values())),
    }


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise SystemExit(f"{question} Confirm with --yes.")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise SystemExit("Nothing was deleted.")


def _group_rows(found: Sequence[RunTotals], by: str) -> list[dict[str, Any]]:
    from airflow_zen.lineage.savings import sum_totals

    groups: dict[tuple[str, ...], list[RunTotals]] = {}
    for totals in found:
        # A week is `2026-W05`, as in ISO 8601.
        week = f"{datetime.fromtimestamp(totals.ended, UTC):%G-W%V}"
        group = {"dag": (), "run": (totals.run_id,), "week": (week,)}[by]
        groups.setdefault((totals.dag_id, *group), []).append(totals)
    sums = ((group, sum_totals(groups[group])) for group in sorted(groups))
    return [dict(zip(("dag", by), group, strict=False)) | _totals_row(total) for group, total in sums]


def _totals_row(totals: RunTotals) -> dict[str, Any]:
    counts = {name: getattr(totals, name) for name in ("runs", "steps", "reused", "computed", "failed")}
    times = {"seconds computed": totals.seconds_computed, "seconds saved": totals.seconds_saved}
    return counts | {name: round(seconds, 1) for name, seconds in times.items()}
