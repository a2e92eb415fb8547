"""Bytes through obstore: S3 and Azure at the lowest latency."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_zen.artifacts.hashing import HASH_PREFIX, FileHash
from airflow_zen.errors import AlreadyExists, ArtifactNotFound, ZenError
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports import obstore_options
from airflow_zen.transports.base import (
    DEFAULT_TIMEOUTS,
    MAX_THREADS,
    ObjectInfo,
    Timeouts,
    key_of_url,
    run_in_parallel,
    upload_files,
)
from airflow_zen.transports.errors import translate_errors
from airflow_zen.transports.local import ProgressFile

# The least that S3 takes, and more for files that would have more parts than it allows. Measured with 138 MB on Ceph:
# parts of 5 MiB cost 0.15 s of processor time, of 8 MiB 0.23, for each is read into memory that is new to the process.
_PART_SIZE = 5 * 1024 * 1024
_MAX_PARTS = 10_000
# Large enough to leave Python seldom, small enough to be hashed while it is still in the processor's cache.
_CHUNK_SIZE = 1024 * 1024
_MAX_SINGLE_PUT = 16 * 1024 * 1024
# Parts that are on their way at once, of all files of an artifact together: each is in memory until it arrived.
_MAX_CONCURRENT_PARTS = 12
_MIN_CONCURRENT_PARTS = 2


class ObstoreTransport:
    """Keep the artifact root in a bucket that obstore speaks to."""

    scratch_directory: Path | None = None

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
        self.root = root
        self._settings = settings
        self._on_bytes = on_bytes
        self._obstore: Any = obstore
        self._process_id = os.getpid()
        self._credential_provider = settings.credentials.obstore_provider() if settings.credentials else None
        self._timeouts = timeouts
        self._opened_store = self._open_store(timeouts.read)
        self._opened_upload_store: Any = None

    @property
    def _store(self) -> Any:
        if os.getpid() != self._process_id:
            raise ZenError("An artifact store opened before a fork cannot be used after it; open a new Stack.")
        return self._opened_store

    @property
    def _upload_store(self) -> Any:
        """Give the store for what takes long until it is answered; opened when first used, which takes 10 ms."""
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

    def read(self, key: str) -> bytes:
        """Fetch with one request."""
        with translate_errors(self.root, key):
            return bytes(self._obstore.get(self._store, key).bytes())

    def write(self, key: str, data: bytes) -> None:
        """Store with one request."""
        with translate_errors(self.root):
            self._obstore.put(self._store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes) -> None:
        """Store with one conditional request."""
        try:
            with translate_errors(self.root):
                self._obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError as error:
            raise AlreadyExists(f"{self.root}/{key} exists.") from error

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Fetch with one request."""
        with translate_errors(self.root, key):
            return bytes(self._obstore.get_range(self._store, key, start=start, end=end))

    def size(self, key: str) -> int:
        """Ask for the object's head."""
        with translate_errors(self.root, key):
            return int(self._obstore.head(self._store, key)["size"])

    def object_store_options(self) -> Mapping[str, str] | None:
        """Give the settings of an S3 root: polars is built on the same client."""
        if (
            not self.root.startswith("s3://")
            or self._settings.credentials
            or set(self._settings.client) - {"allow_http"}
        ):
            return None
        options = {f"aws_{name}": str(value) for name, value in self._settings.config.items()}
        return options | {f"aws_{name}": str(value).lower() for name, value in self._settings.client.items()}

    def stream(self, key: str) -> Iterator[memoryview]:
        """Pass on what one request gives."""
        with translate_errors(self.root, key):
            for piece in self._obstore.get(self._store, key).stream(min_chunk_size=_CHUNK_SIZE):
                yield memoryview(piece)
                self._on_bytes(len(piece))

    def download(self, key: str, path: Path, like: str = HASH_PREFIX) -> str:
        """Stream into a file, and hash what passes by."""
        arrived = FileHash(like)
        with path.open("wb") as file:
            for piece in self.stream(key):
                file.write(piece)
                arrived.update(piece)
        return arrived.text

    def checksum(self, key: str) -> tuple[int, str]:
        """Stream through the object, keeping none of it."""
        passed, size = FileHash(), 0
        for piece in self.stream(key):
            passed.update(piece)
            size += len(piece)
        return size, passed.text

    def local_path(self, key: str) -> Path | None:
        """Nothing is local."""
        return None

    def publish(self, directory: Path, prefix: str, last: str) -> None:
        """Upload the files in parallel, then the last one."""
        large = sum(_is_large(path) for path in directory.rglob("*"))
        parts = max(_MIN_CONCURRENT_PARTS, _MAX_CONCURRENT_PARTS // max(1, min(large, MAX_THREADS)))

        def upload(path: Path, name: str) -> None:
            self._upload(path, f"{prefix}/{name}", parts, ignore_bytes if name == last else self._on_bytes)

        upload_files(directory, last, upload)

    def copy(self, prefix: str, url: str, names: Iterable[str]) -> None:
        """Copy on the server."""
        key = key_of_url(self.root, url)
        with translate_errors(self.root, prefix):
            run_in_parallel(
                lambda name: self._obstore.copy(self._upload_store, f"{prefix}/{name}", f"{key}/{name}"), names
            )

    def exists(self, key: str) -> bool:
        """Ask for the object's head."""
        try:
            self.size(key)
        except ArtifactNotFound:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """List in pages."""
        with translate_errors(self.root):
            for page in self._obstore.list(self._store, prefix):
                yield from (entry["path"] for entry in page)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """List in pages."""
        with translate_errors(self.root):
            for page in self._obstore.list(self._store, prefix):
                for entry in page:
                    yield ObjectInfo(entry["path"], int(entry["size"]), entry["last_modified"].timestamp())

    def first_key(self, prefix: str, after: str = "") -> str | None:
        """Ask for one page, which is all that is taken of the listing."""
        with translate_errors(self.root):
            pages = self._obstore.list(self._store, prefix, offset=after or None, chunk_size=1)
            # Azurite takes no notice of where a listing is to start.
            return next((str(entry["path"]) for page in pages for entry in page if entry["path"] > after), None)

    def list_prefixes(self, prefix: str) -> Iterator[str]:
        """Ask for common prefixes."""
        with translate_errors(self.root):
            found = self._obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        yield from sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete in batches."""
        todo = list(keys)
        with translate_errors(self.root):
            try:
                self._obstore.delete(self._store, todo)
            except FileNotFoundError:
                # Azure's batch tells of one that is gone already, and the rest of the list may still be there.
                run_in_parallel(self._delete, todo)

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._obstore.delete(self._store, key)

    def _upload(self, path: Path, key: str, parts: int, on_bytes: BytesCallback) -> None:
        size = path.stat().st_size
        part = max(_PART_SIZE, math.ceil(size / _MAX_PARTS))
        options = {
            "use_multipart": _is_large(path),
            "chunk_size": part,
            "max_concurrency": max(_MIN_CONCURRENT_PARTS, parts * _PART_SIZE // part),
        }
        store = self._upload_store if size > _CHUNK_SIZE else self._store
        with translate_errors(self.root):
            if on_bytes is ignore_bytes:
                self._obstore.put(store, key, path, **options)
                return
            # What is read is ahead of what has arrived, by the parts that are on their way.
            with ProgressFile(path, on_bytes) as file:
                self._obstore.put(store, key, file, **options)


def _is_large(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > _MAX_SINGLE_PUT
