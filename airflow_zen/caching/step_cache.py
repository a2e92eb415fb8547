"""The step cache: the refs and ingredients of each cache key, and the latest keys of each task, to explain a miss."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from msgspec.structs import asdict

from airflow_zen.artifacts.leases import Lease, LeaseStore, TaskAttempt
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import UNREADABLE, ArtifactNotFound, ArtifactRefused
from airflow_zen.json_records import convert_record, decode_record
from airflow_zen.progress import Progress, ProgressCallback, ignore_progress, track_items
from airflow_zen.transports.base import Transport, quote_key_part

T = TypeVar("T")

FORMAT_VERSION = 1

# The most keys that one request to S3 deletes.
_DELETE_BATCH = 1000
_ENTRY_KEY = r"cache/[0-9a-f]{2}/[0-9a-f]{64}\.json"
_MAX_RECORDS = 5
# What a user changed is named before what follows from it.
_KINDS = "function class constant parameter context input key file env view version scope output distribution"
_RANKS = {kind: rank for rank, kind in enumerate(_KINDS.split())}
_MAX_VALUE_TEXT = 40
_ABSENT = "nothing"


class CacheEntry(msgspec.Struct, frozen=True):
    """One finished step: its outputs, the step run that computed them, and the ingredients of its key.

    `outputs` are refs by output name, `origin` is the step run that computed them, `seconds` how long that took,
    `created` seconds since the epoch, `ingredients` every labeled fingerprint in `key`, `page`
    the address of the run in MLflow, else of its log in Airflow; empty where there is neither. `metadata`: what user code logged, as in `StepRun`.
    """

    key: str
    outputs: Mapping[str, ArtifactRef]
    origin: str
    seconds: float
    created: float
    ingredients: Mapping[str, str] = msgspec.field(default_factory=dict)
    page: str = ""
    metadata: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the entry as a JSON document."""
        outputs = {name: ref.to_wire() for name, ref in self.outputs.items()}
        return json.dumps({"airflow_zen": FORMAT_VERSION, **asdict(self), "outputs": outputs}, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> CacheEntry:
        """Read an entry; raises `ValueError` or `ArtifactRefused` when it cannot be used."""
        document: dict[str, Any] = json.loads(text)
        if document.get("airflow_zen") != FORMAT_VERSION:
            raise ValueError(f"cache entry of format {document.get('airflow_zen')!r}")
        outputs = {name: ArtifactRef.from_wire(wire) for name, wire in document["outputs"].items()}
        return convert_record({**document, "outputs": outputs}, cls)


class StepCache:
    """The finished steps under `cache/` of the artifact root.

    `history` holds each task's latest keys, to explain a miss; `leases` let one of several equal steps compute. A lease
    is stored in place of the entry that its holder computes.
    """

    def __init__(self, transport: Transport, leases: LeaseStore | None = None) -> None:
        self.transport = transport
        self.history = KeyHistory(transport)
        self._leases = leases or LeaseStore(transport)

    def get(self, key: str) -> CacheEntry | None:
        """Return the entry of a key with one request; None when there is none that can be read."""
        entry = self._read(_entry_key(key))
        return entry if entry and entry.key == key else None

    def put(self, entry: CacheEntry) -> None:
        """Store a finished step, in place of an earlier one with the same key."""
        self.transport.write(_entry_key(entry.key), entry.to_json())

    def acquire_or_wait(
        self, key: str, find_result: Callable[[], T | None], attempt: TaskAttempt
    ) -> tuple[T | None, Lease]:
        """Wait for the entry of a key that an equal step computes, or hold the lease to compute it.

        `find_result` returns the result of the entry; None if there is none.
        """
        return self._leases.acquire_or_wait(_entry_key(key), find_result, attempt)

    def entries(self, on_progress: ProgressCallback = ignore_progress) -> Iterator[CacheEntry]:
        """Yield every entry that can be read; one request for each."""
        keys = [key for key in self.transport.list("cache") if re.fullmatch(_ENTRY_KEY, key)]
        with ThreadPoolExecutor(16) as pool:
            read = track_items(pool.map(self._read, keys), "Reading cache entries", on_progress, len(keys))
            yield from (entry for entry in read if entry)

    def delete(self, entries: Collection[CacheEntry], on_progress: ProgressCallback = ignore_progress) -> None:
        """Delete entries, and their keys in the histories of their tasks.

        Leases and artifacts stay: a deleted entry costs a computation, never a result.
        """
        addresses = [_entry_key(entry.key) for entry in entries]
        for start in range(0, len(addresses), _DELETE_BATCH):
            on_progress(Progress("Forgetting cache entries", start, len(addresses)))
            self.transport.delete(addresses[start : start + _DELETE_BATCH])
        keys, tasks = {entry.key for entry in entries}, sorted({task_of_entry(entry) for entry in entries})
        for dag_id, task_id in track_items(tasks, "Forgetting histories of tasks", on_progress, len(tasks)):
            self.history.remove(dag_id, task_id, keys)

    def _read(self, address: str) -> CacheEntry | None:
        try:
            return CacheEntry.from_json(self.transport.read(address))
        except (ArtifactNotFound, ArtifactRefused, *UNREADABLE):
            return None


def task_of_entry(entry: CacheEntry) -> tuple[str, str]:
    """Return DAG and task of `dag/run/task/map index/try`; a run id may contain slashes itself."""
    parts = entry.origin.split("/")
    return parts[0], parts[-3] if len(parts) > 4 else ""


def _entry_key(key: str) -> str:
    return f"cache/{key[:2]}/{key}.json"


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

    If two runs of a task write at once, one record may be lost; it is only used for explanations.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def recent_records(self, dag_id: str, task_id: str) -> list[KeyRecord]:
        """Return a task's latest keys, the newest first; empty when they cannot be read."""
        try:
            return decode_record(self._transport.read(_history_key(dag_id, task_id)), list[KeyRecord])
        except (ArtifactNotFound, *UNREADABLE):
            return []

    def add(self, dag_id: str, task_id: str, result: KeyRecord, earlier: list[KeyRecord] | None = None) -> None:
        """Add the newest result, and drop the oldest beyond the last few; `earlier` are the task's records where known."""
        known = self.recent_records(dag_id, task_id) if earlier is None else earlier
        others = [record for record in known if record.key != result.key]
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
    """Return the earlier result with the fewest differences; the newest of several."""
    return min(history, key=lambda entry: len(list(changed_ingredients(ingredients, entry.ingredients))), default=None)


def changed_ingredients(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield `(label, before, now)` for every ingredient that differs; a missing one is empty text."""
    for label in sorted({*now, *before}, key=lambda label: (_RANKS.get(label.partition(" ")[0], len(_RANKS)), label)):
        old, new = before.get(label, ""), now.get(label, "")
        if old != new:
            yield label, old, new


def text_diff(label: str, before: KeyRecord, now: KeyRecord) -> list[str]:
    """Return the lines of a unified diff of the texts behind an ingredient; empty where neither key has its text."""
    # A task imports this module, and explains only some misses.
    import difflib

    old, new = (each.sources.get(label, "").splitlines() for each in (before, now))
    return [*difflib.unified_diff(old, new, "before", "now", lineterm="")]


def explain_miss(ingredients: Mapping[str, str], sources: Mapping[str, str], history: list[KeyRecord]) -> str:
    """Return in one line why a key is unknown: the differences from the most similar earlier result.

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
    if kind == "context":
        return f"{label}: {_value_text(before, text_before)} → {_value_text(now, text_now)}"
    if not (before and now):
        return f"{label} is {'gone' if before else 'new'}"
    return f"{label}: {before} → {now}" if kind == "python" else f"{label} changed"


def _value_text(fingerprint: str, text: str) -> str:
    if text and len(text) <= _MAX_VALUE_TEXT:
        return text
    return f"{fingerprint[:4]}…" if fingerprint else _ABSENT


def _history_key(dag_id: str, task_id: str) -> str:
    return f"cache/history/{quote_key_part(dag_id)}/{quote_key_part(task_id)}.json"
