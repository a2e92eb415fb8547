"""Bytes through obstore: S3 and Azure at the lowest latency."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_zen.errors import ZenError
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports import obstore_options
from airflow_zen.transports.base import (
    CHUNK_SIZE,
    DEFAULT_TIMEOUTS,
    MAX_SINGLE_PUT,
    MAX_THREADS,
    ObjectInfo,
    Timeouts,
    Transport,
    run_in_parallel,
)
from airflow_zen.transports.local import ProgressFile

# The least that S3 takes, and more for files that would have more parts than it allows. Measured with 138 MB on Ceph:
# parts of 5 MiB cost 0.15 s of processor time, of 8 MiB 0.23 s, because each is read into memory that is new to the process.
_PART_SIZE = 5 * 1024 * 1024
_MAX_PARTS = 10_000
# Parts that are sent at once, of all files of an artifact together: each is in memory until it has arrived.
_MAX_CONCURRENT_PARTS = 12
_MIN_CONCURRENT_PARTS = 2


class ObstoreTransport(Transport):
    """Keep the artifact root in a bucket that obstore opens."""

    def __init__(
        self,
        root: str,
        settings: obstore_options.ObstoreSettings,
        on_bytes: BytesCallback = ignore_bytes,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        import obstore
        import obstore.store

        obstore_options.mark_threads_started()
        super().__init__(root, on_bytes)
        self._settings = settings
        self._obstore: Any = obstore
        self._process_id = os.getpid()
        self._credential_provider = settings.credentials.obstore_provider() if settings.credentials else None
        self._timeouts = timeouts
        self._opened_store = self._open_store(timeouts.read)
        self._opened_upload_store: Any = None

    def object_store_options(self) -> Mapping[str, str] | None:
        """Return the settings of an S3 root: polars is built on the same client."""
        settings = self._settings
        if not self.root.startswith("s3://") or settings.credentials or set(settings.client) - {"allow_http"}:
            return None
        options = {f"aws_{name}": str(value) for name, value in settings.config.items()}
        return options | {f"aws_{name}": str(value).lower() for name, value in settings.client.items()}

    def stream(self, key: str) -> Iterator[memoryview]:
        """Yield the bytes that one request returns."""
        with self._translate_errors(key):
            for chunk in self._chunks(key):
                yield memoryview(chunk)
                self._on_bytes(len(chunk))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects in batches."""
        todo = [*keys]
        with self._translate_errors():
            try:
                self._obstore.delete(self._store, todo)
            except FileNotFoundError:
                # Azure's batch fails for a key that does not exist, and may leave the rest of the list.
                run_in_parallel(self._delete, todo)

    @property
    def _store(self) -> Any:
        if os.getpid() != self._process_id:
            raise ZenError("An artifact store opened before a fork cannot be used after it; open a new Stack.")
        return self._opened_store

    @property
    def _upload_store(self) -> Any:
        """Return the store for requests that take long to answer; opened when first used, which takes 10 ms."""
        if self._store and self._opened_upload_store is None:
            self._opened_upload_store = self._open_store(self._timeouts.write)
        return self._opened_upload_store

    def _open_store(self, read: float) -> Any:
        return self._obstore.store.from_url(
            self.root,
            config=dict(self._settings.config),
            client_options=obstore_options.with_timeouts(self._settings.client, self._timeouts.connect, read),
            retry_config={"retry_timeout": timedelta(seconds=self._timeouts.retry)},
            **({"credential_provider": self._credential_provider} if self._credential_provider else {}),
        )

    def _read(self, key: str) -> bytes:
        return bytes(self._obstore.get(self._store, key).bytes())

    def _write(self, key: str, data: bytes) -> None:
        self._obstore.put(self._store, key, data, use_multipart=False)

    def _create(self, key: str, data: bytes) -> None:
        try:
            self._obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError as error:
            raise FileExistsError(key) from error

    def _read_range(self, key: str, start: int, end: int) -> bytes:
        return bytes(self._obstore.get_range(self._store, key, start=start, end=end))

    def _size(self, key: str) -> int:
        return int(self._obstore.head(self._store, key)["size"])

    def _chunks(self, key: str) -> Iterator[Any]:
        return iter(self._obstore.get(self._store, key).stream(min_chunk_size=CHUNK_SIZE))

    def _upload(self, path: Path, key: str, size: int, large: int, on_bytes: BytesCallback) -> None:
        part = max(_PART_SIZE, math.ceil(size / _MAX_PARTS))
        parts = max(_MIN_CONCURRENT_PARTS, _MAX_CONCURRENT_PARTS // max(1, min(large, MAX_THREADS)))
        options = {
            "use_multipart": size > MAX_SINGLE_PUT,
            "chunk_size": part,
            "max_concurrency": max(_MIN_CONCURRENT_PARTS, parts * _PART_SIZE // part),
        }
        store = self._upload_store if size > CHUNK_SIZE else self._store
        if on_bytes is ignore_bytes:
            self._obstore.put(store, key, path, **options)
            return
        # What was read is ahead of what has arrived, by the parts that are being sent.
        with ProgressFile(path, on_bytes) as file:
            self._obstore.put(store, key, file, **options)

    def _copy(self, key: str, target: str) -> None:
        self._obstore.copy(self._upload_store, key, target)

    def _list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in self._obstore.list(self._store, prefix):
            for entry in page:
                yield ObjectInfo(entry["path"], int(entry["size"]), entry["last_modified"].timestamp())

    def _first_key(self, prefix: str, after: str) -> str | None:
        pages = self._obstore.list(self._store, prefix, offset=after or None, chunk_size=1)
        # Azurite ignores where a listing is to start.
        return next((str(entry["path"]) for page in pages for entry in page if entry["path"] > after), None)

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        found = self._obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        return (path.rstrip("/").rpartition("/")[2] for path in found)

    def _delete_one(self, key: str) -> None:
        self._obstore.delete(self._store, key)
