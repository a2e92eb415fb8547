"""What went into the latest results of each task, so that a miss can say what is different this time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec
from msgspec.structs import asdict

from airflow_zen.errors import ArtifactNotFound
from airflow_zen.transports.base import Transport, quote_key_part

_MAX_RECORDS = 5
_MAX_VALUE_TEXT = 40
_ABSENT = "nothing"


class KeyRecord(msgspec.Struct, frozen=True):
    """One earlier result: its key, who made it, and the labelled fingerprints folded into the key.

    `seconds` is how long the work took, `size` the bytes of all outputs; None in records of old.
    """

    key: str
    origin: str
    ingredients: Mapping[str, str]
    sources: Mapping[str, str]
    seconds: float | None = None
    size: int | None = None


class KeyHistory:
    """Keep the last few keys of each task under `cache/history/`: one object a task, however many entries there are.

    Two tasks that write at once may lose one of the two; only the wording of an explanation depends on it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def recent_records(self, dag_id: str, task_id: str) -> list[KeyRecord]:
        """Read a task's latest keys, newest first; none when nothing readable is there."""
        try:
            found = json.loads(self._transport.read(_history_key(dag_id, task_id)))
            return [KeyRecord(**entry) for entry in found]
        except (ArtifactNotFound, ValueError, TypeError):
            return []

    def add(self, dag_id: str, task_id: str, result: KeyRecord) -> None:
        """Put a result in front; the oldest beyond the last few is forgotten."""
        others = [entry for entry in self.recent_records(dag_id, task_id) if entry.key != result.key]
        kept = [asdict(entry) for entry in [result, *others][:_MAX_RECORDS]]
        self._transport.write(_history_key(dag_id, task_id), json.dumps(kept, indent=1).encode())


def nearest_record(ingredients: Mapping[str, str], history: list[KeyRecord]) -> KeyRecord | None:
    """Choose the earlier result that differs least; the newest of several."""
    return min(history, key=lambda entry: len(list(changed_ingredients(ingredients, entry.ingredients))), default=None)


def changed_ingredients(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield `(label, before, now)` for every ingredient that differs; one that is missing is empty text."""
    for label in sorted({*now, *before}, key=_label_rank):
        old, new = before.get(label, ""), now.get(label, "")
        if old != new:
            yield label, old, new


def explain_miss(ingredients: Mapping[str, str], sources: Mapping[str, str], history: list[KeyRecord]) -> str:
    """Say in one line why a key was never seen: what differs from the closest earlier result.

    `sources` are the texts behind the ingredients: where both are short, they are told, not their fingerprints.
    """
    earlier = nearest_record(ingredients, history)
    if earlier is None:
        return "no earlier result of this task is remembered"
    told = [
        _describe_change(label, before, now, earlier.sources.get(label, ""), sources.get(label, ""))
        for label, before, now in changed_ingredients(ingredients, earlier.ingredients)
    ]
    return "; ".join(told) or f"the result of {earlier.origin} is no longer there"


def _describe_change(label: str, before: str, now: str, text_before: str, text_now: str) -> str:
    kind, _, name = label.partition(" ")
    if kind == "distribution":
        return f"{name} {before or _ABSENT} → {now or _ABSENT}"
    if kind in ("input", "parameter"):
        return f"{kind} '{name}': {_value_text(before, text_before)} → {_value_text(now, text_now)}"
    if not before:
        return f"{label} is new"
    if not now:
        return f"{label} is gone"
    return f"{label}: {before} → {now}" if kind == "python" else f"{label} changed"


def _value_text(fingerprint: str, text: str) -> str:
    if text and len(text) <= _MAX_VALUE_TEXT:
        return text
    return f"{fingerprint[:4]}…" if fingerprint else _ABSENT


def _label_rank(label: str) -> tuple[int, str]:
    """Tell what a user did before what follows from it."""
    order = (
        "function", "class", "constant", "parameter", "input", "key", "file", "env", "view", "version", "scope", "output",
        "distribution",
    )  # fmt: skip
    kind = label.partition(" ")[0]
    return (order.index(kind) if kind in order else len(order), label)


def _history_key(dag_id: str, task_id: str) -> str:
    return f"cache/history/{quote_key_part(dag_id)}/{quote_key_part(task_id)}.json"
