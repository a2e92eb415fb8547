"""What the step cache holds, and how some of it is forgotten."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import asdict

from airflow_zen.artifacts.root import quote_key_part
from airflow_zen.artifacts.transport import Transport
from airflow_zen.caching.cache import CacheEntry
from airflow_zen.caching.history import KeyHistory
from airflow_zen.errors import ArtifactNotFound, ArtifactRefused
from airflow_zen.progress import Progress, ProgressCallback, ignore_progress, track_items

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
