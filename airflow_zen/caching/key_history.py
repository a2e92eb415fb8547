"""The latest keys of each task, which explain a miss."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping

import msgspec
from msgspec.structs import asdict

from airflow_zen.errors import ArtifactNotFound
from airflow_zen.transports.base import Transport, quote_key_part

_MAX_RECORDS = 5
_MAX_VALUE_TEXT = 40
_ABSENT = "nothing"


class KeyRecord(msgspec.Struct, frozen=True):
    """One earlier result: its key, the step run that computed it, and the labeled fingerprints in the key.

    `seconds` is how long the work took, `size` the bytes of all outputs; None in records of old versions.
    """

    key: str
    origin: str
    ingredients: Mapping[str, str]
    sources: Mapping[str, str]
    seconds: float | None = None
    size: int | None = None


class KeyHistory:
    """The last few keys of each task under `cache/history/`, one object for each task.

    When two runs of a task write at once one record may be lost; only the text of an explanation depends on it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def recent_records(self, dag_id: str, task_id: str) -> list[KeyRecord]:
        """Return a task's latest keys, the newest first; empty when they cannot be read."""
        try:
            found = json.loads(self._transport.read(_history_key(dag_id, task_id)))
            return [KeyRecord(**entry) for entry in found]
        except (ArtifactNotFound, ValueError, TypeError):
            return []

    def add(self, dag_id: str, task_id: str, result: KeyRecord) -> None:
        """Add the newest result, and drop the oldest beyond the last few."""
        others = [entry for entry in self.recent_records(dag_id, task_id) if entry.key != result.key]
        self._write(dag_id, task_id, [result, *others][:_MAX_RECORDS])

    def remove(self, dag_id: str, task_id: str, keys: Collection[str]) -> None:
        """Remove a task's records of these keys."""
        before = self.recent_records(dag_id, task_id)
        kept = [record for record in before if record.key not in keys]
        if not kept:
            self._transport.delete([_history_key(dag_id, task_id)])
        elif len(kept) < len(before):
            self._write(dag_id, task_id, kept)

    def _write(self, dag_id: str, task_id: str, records: list[KeyRecord]) -> None:
        text = json.dumps([asdict(record) for record in records], indent=1)
        self._transport.write(_history_key(dag_id, task_id), text.encode())


def nearest_record(ingredients: Mapping[str, str], history: list[KeyRecord]) -> KeyRecord | None:
    """Return the earlier result that differs least; the newest of several."""
    return min(history, key=lambda entry: len(list(changed_ingredients(ingredients, entry.ingredients))), default=None)


def changed_ingredients(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield `(label, before, now)` for every ingredient that differs; a missing one is empty text."""
    for label in sorted({*now, *before}, key=_label_rank):
        old, new = before.get(label, ""), now.get(label, "")
        if old != new:
            yield label, old, new


def explain_miss(ingredients: Mapping[str, str], sources: Mapping[str, str], history: list[KeyRecord]) -> str:
    """Return in one line why a key is unknown: what differs from the closest earlier result.

    `sources` are the texts behind the ingredients; short ones are shown in place of their fingerprints.
    """
    earlier = nearest_record(ingredients, history)
    if earlier is None:
        return "no earlier result of this task is remembered"
    changes = [
        _describe_change(label, before, now, earlier.sources.get(label, ""), sources.get(label, ""))
        for label, before, now in changed_ingredients(ingredients, earlier.ingredients)
    ]
    return "; ".join(changes) or f"the result of {earlier.origin} is no longer there"


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
    """Rank what a user changed before what follows from it."""
    order = (
        "function", "class", "constant", "parameter", "input", "key", "file", "env", "view", "version", "scope", "output",
        "distribution",
    )  # fmt: skip
    kind = label.partition(" ")[0]
    return (order.index(kind) if kind in order else len(order), label)


def _history_key(dag_id: str, task_id: str) -> str:
    return f"cache/history/{quote_key_part(dag_id)}/{quote_key_part(task_id)}.json"
