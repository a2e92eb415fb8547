"""The step cache: from a cache key to the refs that equal work returned."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from msgspec.structs import asdict

from airflow_zen.artifacts.leases import LeaseStore
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.caching.key_history import KeyHistory
from airflow_zen.errors import ArtifactNotFound, ArtifactRefused
from airflow_zen.progress import Progress, ProgressCallback, ignore_progress, track_items
from airflow_zen.transports.base import Transport

FORMAT_VERSION = 1

_READ_THREADS = 16
# The most keys that one request to S3 deletes.
_DELETE_BATCH = 1000
_ENTRY_KEY = re.compile(r"cache/[0-9a-f]{2}/[0-9a-f]{64}\.json")


class CacheEntry(msgspec.Struct, frozen=True):
    """One finished step: its outputs, the step run that computed them, and the ingredients of its key.

    `outputs` are refs by output name, `origin` is the step run that computed them, `seconds` how long that took,
    `created` seconds since the epoch, `ingredients` every labeled fingerprint in `key`.
    """

    key: str
    outputs: Mapping[str, ArtifactRef]
    origin: str
    seconds: float
    created: float
    ingredients: Mapping[str, str] = msgspec.field(default_factory=dict)

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
        return cls(**{name: document[name] for name in cls.__struct_fields__} | {"outputs": outputs})


class StepCache:
    """The finished steps under `cache/` of the artifact root.

    `history` holds each task's latest keys, to explain a miss; `leases` let one of several equal steps compute.
    """

    def __init__(self, transport: Transport, leases: LeaseStore | None = None) -> None:
        self.transport = transport
        self.history = KeyHistory(transport)
        self.leases = leases or LeaseStore(transport)

    def get(self, key: str) -> CacheEntry | None:
        """Return the entry of a key with one request; None when there is none that can be read."""
        entry = self._read(_entry_key(key))
        return entry if entry and entry.key == key else None

    def put(self, entry: CacheEntry) -> None:
        """Store a finished step, in place of an earlier one with the same key."""
        self.transport.write(_entry_key(entry.key), entry.to_json())

    def entries(self, on_progress: ProgressCallback = ignore_progress) -> Iterator[CacheEntry]:
        """Yield every entry that can be read; one request for each."""
        keys = [key for key in self.transport.list("cache") if _ENTRY_KEY.fullmatch(key)]
        with ThreadPoolExecutor(_READ_THREADS) as pool:
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
        except (ArtifactNotFound, ArtifactRefused, ValueError, KeyError, TypeError, AttributeError):
            return None


def task_of_entry(entry: CacheEntry) -> tuple[str, str]:
    """Return DAG and task of `dag/run/task/map index/try`; a run id may contain slashes itself."""
    parts = entry.origin.split("/")
    return parts[0], parts[-3] if len(parts) > 4 else ""


def _entry_key(key: str) -> str:
    return f"cache/{key[:2]}/{key}.json"
