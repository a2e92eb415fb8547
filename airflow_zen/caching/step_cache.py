"""The step cache: from a cache key to the refs that the same work gave before."""

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
from airflow_zen.transports.base import Transport, quote_key_part

FORMAT_VERSION = 1


class CacheEntry(msgspec.Struct, frozen=True):
    """Remember one finished step: its outputs, who made them, and why the key is what it is.

    `outputs` are refs by output name, `origin` the step run that made them, `seconds` how long the work took, `created` seconds since
    the epoch, `ingredients` every labelled fingerprint folded into `key`.
    """

    key: str
    outputs: Mapping[str, ArtifactRef]
    origin: str
    seconds: float
    created: float
    ingredients: Mapping[str, str] = msgspec.field(default_factory=dict)

    def to_json(self) -> bytes:
        """Write the entry as one JSON document."""
        document = {
            "airflow_zen": FORMAT_VERSION,
            "key": self.key,
            "origin": self.origin,
            "seconds": self.seconds,
            "created": self.created,
            "outputs": {name: ref.to_wire() for name, ref in self.outputs.items()},
            "ingredients": dict(self.ingredients),
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> CacheEntry:
        """Read an entry back; raises `ValueError` or `ArtifactRefused` when it cannot be used."""
        document: dict[str, Any] = json.loads(text)
        if document.get("airflow_zen") != FORMAT_VERSION:
            raise ValueError(f"cache entry of format {document.get('airflow_zen')!r}")
        return cls(
            key=document["key"],
            outputs={name: ArtifactRef.from_wire(wire) for name, wire in document["outputs"].items()},
            origin=document["origin"],
            seconds=document["seconds"],
            created=document["created"],
            ingredients=document["ingredients"],
        )


class StepCache:
    """Look up and remember finished steps under `cache/` of the artifact root.

    `history` knows each task's latest keys, to explain a miss; `leases` lets one of equal steps compute.
    """

    def __init__(self, transport: Transport, leases: LeaseStore | None = None) -> None:
        self.transport = transport
        self.history = KeyHistory(transport)
        self.leases = leases or LeaseStore(transport)

    def get(self, key: str) -> CacheEntry | None:
        """Find the entry of a key with one request; an entry that cannot be read is none."""
        try:
            entry = CacheEntry.from_json(self.transport.read(_entry_key(key)))
        except (ArtifactNotFound, ArtifactRefused, ValueError, KeyError, TypeError, AttributeError):
            return None
        return entry if entry.key == key else None

    def put(self, entry: CacheEntry) -> None:
        """Remember a finished step; the same key again is replaced by the newer."""
        self.transport.write(_entry_key(entry.key), entry.to_json())


def _entry_key(key: str) -> str:
    return f"cache/{key[:2]}/{key}.json"


_READ_THREADS = 16
# What one request to S3 deletes.
_DELETE_BATCH = 1000
_ENTRY_KEY = re.compile(r"cache/[0-9a-f]{2}/[0-9a-f]{64}\.json")


class CacheEntries:
    """List the entries of a root's step cache, and forget some; one request for each entry.

    What is being computed keeps its lease, and artifacts stay where they are: forgetting costs a computation, never a
    result.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def read_all(self, on_progress: ProgressCallback = ignore_progress) -> Iterator[CacheEntry]:
        """Read every entry; one that cannot be read, or goes meanwhile, is left out."""
        keys = [key for key in self._transport.list("cache") if _ENTRY_KEY.fullmatch(key)]
        with ThreadPoolExecutor(_READ_THREADS) as pool:
            read = track_items(pool.map(self._read_entry, keys), "Reading cache entries", on_progress, len(keys))
            yield from (entry for entry in read if entry)

    def delete(self, entries: Collection[CacheEntry], on_progress: ProgressCallback = ignore_progress) -> None:
        """Forget entries, and what the histories of their tasks say of them."""
        addresses = [f"cache/{entry.key[:2]}/{entry.key}.json" for entry in entries]
        for start in range(0, len(addresses), _DELETE_BATCH):
            on_progress(Progress("Forgetting cache entries", start, len(addresses)))
            self._transport.delete(addresses[start : start + _DELETE_BATCH])
        keys, tasks = {entry.key for entry in entries}, sorted({task_of_entry(entry) for entry in entries})
        for dag_id, task_id in track_items(tasks, "Forgetting histories of tasks", on_progress, len(tasks)):
            self._delete_from_history(dag_id, task_id, keys)

    def _delete_from_history(self, dag_id: str, task_id: str, keys: Collection[str]) -> None:
        before = KeyHistory(self._transport).recent_records(dag_id, task_id)
        kept = [asdict(result) for result in before if result.key not in keys]
        address = f"cache/history/{quote_key_part(dag_id)}/{quote_key_part(task_id)}.json"
        if not kept:
            self._transport.delete([address])
        elif len(kept) < len(before):
            self._transport.write(address, json.dumps(kept, indent=1).encode())

    def _read_entry(self, key: str) -> CacheEntry | None:
        try:
            return CacheEntry.from_json(self._transport.read(key))
        except (ArtifactNotFound, ArtifactRefused, ValueError, KeyError, TypeError, AttributeError):
            return None


def task_of_entry(entry: CacheEntry) -> tuple[str, str]:
    """Give DAG and task out of `dag/run/task/map index/try`, where a run id may hold slashes itself."""
    parts = entry.origin.split("/")
    return parts[0], parts[-3] if len(parts) > 4 else ""
