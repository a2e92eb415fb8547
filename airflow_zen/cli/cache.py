"""`airflow zen cache …`."""

from __future__ import annotations

import difflib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.caching.key_history import KeyRecord, changed_ingredients, nearest_record
from airflow_zen.caching.step_cache import CacheEntry, StepCache, task_of_entry
from airflow_zen.cli.output import open_stack_for, print_rows, show_progress
from airflow_zen.lineage.savings import (
    RunTotals,
    RunTotalsReader,
    format_bytes,
    format_count,
    format_seconds,
    savings_summary,
    sum_totals,
)
from airflow_zen.pruning.retention import parse_duration

if TYPE_CHECKING:
    from airflow_zen.stack import Stack


def explain_task(args: Any) -> None:
    """Print why a task was computed: each ingredient of its key that differs from the closest earlier result."""
    stack = open_stack_for(args)
    for line in _describe_records(stack, args.dag_id, args.task_id, args.run):
        print(line)
    history = stack.cache.history.recent_records(args.dag_id, args.task_id)
    matching = [n for n, entry in enumerate(history) if args.run is None or _run_id_of(entry) == args.run]
    if not matching:
        raise SystemExit(f"No computed result of {args.dag_id}/{args.task_id} is remembered for this run.")
    entry, older = history[matching[0]], history[matching[0] + 1 :]
    print(f"{entry.origin} computed {entry.key[:12]}")
    for line in _describe_differences(entry, nearest_record(entry.ingredients, older)):
        print(line)


def _describe_records(stack: Stack, dag_id: str, task_id: str, run_id: str | None) -> Iterator[str]:
    """Tell what the records of the asked run say: hits are computed nowhere, and are in no history."""
    for record in stack.records.read_dag_run(dag_id, run_id) if run_id else ():
        if record.id.task_id == task_id:
            reused = f", reused from {record.origin}" if record.origin else ""
            yield f"{record.id}: {record.cache}{reused}{f' ({record.why})' if record.why else ''}"


def _describe_differences(now: KeyRecord, before: KeyRecord | None) -> Iterator[str]:
    if before is None:
        yield "There is no earlier result to compare with. Its key was made of:"
        texts = {label: text for label, text in now.sources.items() if label.startswith("parameter ")}
        yield from (f"  {label}: {texts.get(label, value)}" for label, value in sorted(now.ingredients.items()))
        return
    yield f"Compared with {before.origin}:"
    for label, old, new in changed_ingredients(now.ingredients, before.ingredients):
        yield f"  {label}: {old or 'nothing'} → {new or 'nothing'}"
        old_text, new_text = before.sources.get(label, ""), now.sources.get(label, "")
        for line in difflib.unified_diff(old_text.splitlines(), new_text.splitlines(), "before", "now", lineterm=""):
            yield f"    {line}"


def _run_id_of(entry: KeyRecord) -> str:
    """Give the run id out of `dag/run/task/map index/try`, where a run id may hold slashes itself."""
    return "/".join(entry.origin.split("/")[1:-3])


@suppress_logs_and_warning
def list_entries(args: Any) -> None:
    """Print the remembered results, the newest first."""
    stack = open_stack_for(args)
    entries = _read_entries(stack.cache, args.dag_id, None, args.output)
    if not entries:
        raise SystemExit("No result is remembered here.")
    print_rows([_entry_row(entry, args.output) for entry in entries], args.output)


@suppress_logs_and_warning
def clear_entries(args: Any) -> None:
    """Forget remembered results, after asking; say how many."""
    stack = open_stack_for(args)
    contents = stack.cache
    entries = _read_entries(contents, args.dag_id, args.task_id)
    if args.older_than is not None:
        latest = stack.clock() - parse_duration(args.older_than)
        entries = [entry for entry in entries if entry.created < latest]
    if not entries:
        print("Nothing to forget.")
        return
    tasks = {task_of_entry(entry) for entry in entries}
    summary = f"{format_count(len(entries), 'result')} of {format_count(len(tasks), 'task')}"
    compute_time = format_seconds(sum(entry.seconds for entry in entries))
    if not args.yes:
        _confirm(f"Forget {summary}, which took {compute_time} to compute? Artifacts stay.")
    with show_progress("Forgetting") as on_progress:
        contents.delete(entries, on_progress)
    print(f"Forgot {summary}; they took {compute_time} to compute. Their artifacts stay.")


def _read_entries(
    contents: StepCache, dag_id: str | None, task_id: str | None, output: str = "table"
) -> list[CacheEntry]:
    with show_progress("Reading the cache", output) as on_progress:
        found = [entry for entry in contents.entries(on_progress) if _matches(entry, dag_id, task_id)]
    return sorted(found, key=lambda entry: entry.created, reverse=True)


def _matches(entry: CacheEntry, dag_id: str | None, task_id: str | None) -> bool:
    dag, task = task_of_entry(entry)
    return dag_id in (None, dag) and task_id in (None, task)


def _entry_row(entry: CacheEntry, output: str) -> dict[str, Any]:
    size = sum(ref.size for ref in entry.outputs.values())
    plain = output in ("json", "yaml")
    return {
        "task": "/".join(task_of_entry(entry)),
        "key": entry.key if plain else entry.key[:12],
        "computed by": entry.origin,
        "when": datetime.fromtimestamp(entry.created, UTC).isoformat(timespec="seconds"),
        "took": entry.seconds if plain else format_seconds(entry.seconds),
        "outputs": ", ".join(entry.outputs),
        "size": size if plain else format_bytes(size),
    }


def _confirm(question: str, answers: Sequence[str] = ("y", "yes")) -> None:
    if not sys.stdin.isatty():
        raise SystemExit(f"{question} Say so with --yes.")
    if input(f"{question} [y/N] ").strip().lower() not in answers:
        raise SystemExit("Nothing was forgotten.")


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
        from airflow_zen.plugin.finalize import backfill_run_states

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
