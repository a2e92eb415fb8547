"""`airflow zen cache list` and `clear`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.caching.cache import CacheEntry
from airflow_zen.caching.contents import CacheContents, task_of
from airflow_zen.cli.opened import stack_of
from airflow_zen.cli.progress import progress
from airflow_zen.cli.table import show
from airflow_zen.lineage.quantities import bytes_text, count_text, seconds_text
from airflow_zen.pruning.retention import duration


@suppress_logs_and_warning
def list_entries(args: Any) -> None:
    """Print the remembered results, the newest first."""
    stack = stack_of(args)
    entries = _entries(CacheContents(stack.cache.transport), args.dag_id, None, args.output)
    if not entries:
        raise SystemExit("No result is remembered here.")
    show([_row(entry, args.output) for entry in entries], args.output)


@suppress_logs_and_warning
def clear(args: Any) -> None:
    """Forget remembered results, after asking; say how many."""
    stack = stack_of(args)
    contents = CacheContents(stack.cache.transport)
    entries = _entries(contents, args.dag_id, args.task_id)
    if args.older_than is not None:
        latest = stack.clock() - duration(args.older_than)
        entries = [entry for entry in entries if entry.created < latest]
    if not entries:
        print("Nothing to forget.")
        return
    tasks = {task_of(entry) for entry in entries}
    told = f"{count_text(len(entries), 'result')} of {count_text(len(tasks), 'task')}"
    worth = seconds_text(sum(entry.seconds for entry in entries))
    if not args.yes:
        _confirm(f"Forget {told}, which took {worth} to compute? Artifacts stay.")
    with progress("Forgetting") as tell:
        contents.forget(entries, tell)
    print(f"Forgot {told}; they took {worth} to compute. Their artifacts stay.")


def _entries(
    contents: CacheContents, dag_id: str | None, task_id: str | None, output: str = "table"
) -> list[CacheEntry]:
    with progress("Reading the cache", output) as tell:
        found = [entry for entry in contents.entries(tell) if _asked(entry, dag_id, task_id)]
    return sorted(found, key=lambda entry: entry.created, reverse=True)


def _asked(entry: CacheEntry, dag_id: str | None, task_id: str | None) -> bool:
    dag, task = task_of(entry)
    return dag_id in (None, dag) and task_id in (None, task)


def _row(entry: CacheEntry, output: str) -> dict[str, Any]:
    size = sum(ref.size for ref in entry.outputs.values())
    plain = output in ("json", "yaml")
    return {
        "task": "/".join(task_of(entry)),
        "key": entry.key if plain else entry.key[:12],
        "computed by": entry.origin,
        "when": datetime.fromtimestamp(entry.created, UTC).isoformat(timespec="seconds"),
        "took": entry.seconds if plain else seconds_text(entry.seconds),
        "outputs": ", ".join(entry.outputs),
        "size": size if plain else bytes_text(size),
    }


def _confirm(question: str, answers: Sequence[str] = ("y", "yes")) -> None:
    if not sys.stdin.isatty():
        raise SystemExit(f"{question} Say so with --yes.")
    if input(f"{question} [y/N] ").strip().lower() not in answers:
        raise SystemExit("Nothing was forgotten.")
