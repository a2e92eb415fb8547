"""`airflow zen cache …`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from airflow_zen.caching.history import KeyRecord, changed_ingredients, nearest_record
from airflow_zen.cli.opened import open_stack_for
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
