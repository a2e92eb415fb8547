"""`airflow zen cache list` and `clear`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.caching.cache import CacheEntry
from airflow_zen.caching.contents import CacheEntries, task_of_entry
from airflow_zen.cli.opened import open_stack_for
from airflow_zen.cli.progress import show_progress
from airflow_zen.cli.table import print_rows
from airflow_zen.lineage.quantities import format_bytes, format_count, format_seconds
from airflow_zen.pruning.retention import parse_duration


@suppress_logs_and_warning
def list_entries(args: Any) -> None:
    """Print the remembered results, the newest first."""
    stack = open_stack_for(args)
    entries = _read_entries(CacheEntries(stack.cache.transport), args.dag_id, None, args.output)
    if not entries:
        raise SystemExit("No result is remembered here.")
    print_rows([_entry_row(entry, args.output) for entry in entries], args.output)


@suppress_logs_and_warning
def clear_entries(args: Any) -> None:
    """Forget remembered results, after asking; say how many."""
    stack = open_stack_for(args)
    contents = CacheEntries(stack.cache.transport)
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
    contents: CacheEntries, dag_id: str | None, task_id: str | None, output: str = "table"
) -> list[CacheEntry]:
    with show_progress("Reading the cache", output) as on_progress:
        found = [entry for entry in contents.read_all(on_progress) if _matches(entry, dag_id, task_id)]
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
