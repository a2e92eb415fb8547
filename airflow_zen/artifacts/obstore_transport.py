"""Bytes through obstore: S3 and Azure at the lowest latency."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_zen.artifacts import obstore_options
from airflow_zen.artifacts.hashing import KIND, FileHash
from airflow_zen.artifacts.parallel import THREADS, in_parallel, publish_files
from airflow_zen.artifacts.patience import DEFAULT_PATIENCE, Patience
from airflow_zen.artifacts.refusals import explained
from airflow_zen.artifacts.root import relative_key
from airflow_zen.artifacts.stored_object import StoredObject
from airflow_zen.artifacts.watched_file import WatchedFile
from airflow_zen.errors import AlreadyExists, ArtifactNotFound, ZenError
from airflow_zen.progress import Moved, unseen

# The least that S3 takes, and more for files that would have more parts than it allows. Measured with 138 MB on Ceph:
# parts of 5 MiB cost 0.15 s of processor time, of 8 MiB 0.23, for each is read into memory that is new to the process.
_PART = 5 * 1024 * 1024
_MOST_PARTS = 10_000
# Large enough to leave Python seldom, small enough to be hashed while it is still in the processor's cache.
_PASSING = 1024 * 1024
_SINGLE_PUT = 16 * 1024 * 1024
# Parts that are on their way at once, of all files of an artifact together: each is in memory until it arrived.
_PARTS = 12
_LEAST_PARTS = 2


class ObstoreTransport:
    """Keep the artifact root in a bucket that obstore speaks to."""

    scratch: Path | None = None

    def __init__(
        self,
        root: str,
        settings: obstore_options.ObstoreSettings,
        moved: Moved = unseen,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        import obstore
        import obstore.store

        obstore_options.note_use()
        self.root = root
        self._settings = settings
        self._moved = moved
        self._obstore: Any = obstore
        self._process = os.getpid()
        self._identity = settings.identity.for_obstore() if settings.identity else None
        self._patience = patience
        self._opened = self._open(patience.answer)
        self._sending: Any = None

    @property
    def _store(self) -> Any:
        if os.getpid() != self._process:
            raise ZenError("An artifact store opened before a fork cannot be used after it; open a new Stack.")
        return self._opened

    @property
    def _sender(self) -> Any:
        """Give the store for what takes long until it is answered; opened when first used, which takes 10 ms."""
        if self._store and self._sending is None:
            self._sending = self._open(self._patience.sending)
        return self._sending

    def _open(self, answer: float) -> Any:
        return self._obstore.store.from_url(
            self.root,
            config=dict(self._settings.config),
            client_options=obstore_options.patient(self._settings.client, self._patience.connect, answer),
            retry_config={"retry_timeout": timedelta(seconds=self._patience.again)},
            **({"credential_provider": self._identity} if self._identity else {}),
        )

    def read(self, key: str) -> bytes:
        """Fetch with one request."""
        with explained(self.root, key):
            return bytes(self._obstore.get(self._store, key).bytes())

    def write(self, key: str, data: bytes) -> None:
        """Store with one request."""
        with explained(self.root):
            self._obstore.put(self._store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes) -> None:
        """Store with one conditional request."""
        try:
            with explained(self.root):
                self._obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError as error:
            raise AlreadyExists(f"{self.root}/{key} exists.") from error

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Fetch with one request."""
        with explained(self.root, key):
            return bytes(self._obstore.get_range(self._store, key, start=start, end=end))

    def size(self, key: str) -> int:
        """Ask for the object's head."""
        with explained(self.root, key):
            return int(self._obstore.head(self._store, key)["size"])

    def object_store_options(self) -> Mapping[str, str] | None:
        """Give the settings of an S3 root: polars is built on the same client."""
        if not self.root.startswith("s3://") or self._settings.identity or set(self._settings.client) - {"allow_http"}:
            return None
        options = {f"aws_{name}": str(value) for name, value in self._settings.config.items()}
        return options | {f"aws_{name}": str(value).lower() for name, value in self._settings.client.items()}

    def stream(self, key: str) -> Iterator[memoryview]:
        """Pass on what one request gives."""
        with explained(self.root, key):
            for piece in self._obstore.get(self._store, key).stream(min_chunk_size=_PASSING):
                yield memoryview(piece)
                self._moved(len(piece))

    def download(self, key: str, path: Path, like: str = KIND) -> str:
        """Stream into a file, and hash what passes by."""
        arrived = FileHash(like)
        with path.open("wb") as file:
            for piece in self.stream(key):
                file.write(piece)
                arrived.update(piece)
        return arrived.text

    def hashed(self, key: str) -> tuple[int, str]:
        """Stream through the object, keeping none of it."""
        passed, size = FileHash(), 0
        for piece in self.stream(key):
            passed.update(piece)
            size += len(piece)
        return size, passed.text

    def local(self, key: str) -> Path | None:
        """Nothing is local."""
        return None

    def publish(self, directory: Path, prefix: str, last: str) -> None:
        """Upload the files in parallel, then the last one."""
        large = sum(_is_large(path) for path in directory.rglob("*"))
        parts = max(_LEAST_PARTS, _PARTS // max(1, min(large, THREADS)))

        def upload(path: Path, name: str) -> None:
            self._upload(path, f"{prefix}/{name}", parts, unseen if name == last else self._moved)

        publish_files(directory, last, upload)

    def copy(self, prefix: str, url: str, names: Iterable[str]) -> None:
        """Copy on the server."""
        key = relative_key(self.root, url)
        with explained(self.root, prefix):
            in_parallel(lambda name: self._obstore.copy(self._sender, f"{prefix}/{name}", f"{key}/{name}"), names)

    def exists(self, key: str) -> bool:
        """Ask for the object's head."""
        try:
            self.size(key)
        except ArtifactNotFound:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """List in pages."""
        with explained(self.root):
            for page in self._obstore.list(self._store, prefix):
                yield from (entry["path"] for entry in page)

    def scan(self, prefix: str) -> Iterator[StoredObject]:
        """List in pages."""
        with explained(self.root):
            for page in self._obstore.list(self._store, prefix):
                for entry in page:
                    yield StoredObject(entry["path"], int(entry["size"]), entry["last_modified"].timestamp())

    def first(self, prefix: str, after: str = "") -> str | None:
        """Ask for one page, which is all that is taken of the listing."""
        with explained(self.root):
            pages = self._obstore.list(self._store, prefix, offset=after or None, chunk_size=1)
            # Azurite takes no notice of where a listing is to start.
            return next((str(entry["path"]) for page in pages for entry in page if entry["path"] > after), None)

    def folders(self, prefix: str) -> Iterator[str]:
        """Ask for common prefixes."""
        with explained(self.root):
            found = self._obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        yield from sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete in batches."""
        todo = list(keys)
        with explained(self.root):
            try:
                self._obstore.delete(self._store, todo)
            except FileNotFoundError:
                # Azure's batch tells of one that is gone already, and the rest of the list may still be there.
                in_parallel(self._delete, todo)

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._obstore.delete(self._store, key)

    def _upload(self, path: Path, key: str, parts: int, moved: Moved) -> None:
        size = path.stat().st_size
        part = max(_PART, math.ceil(size / _MOST_PARTS))
        options = {
            "use_multipart": _is_large(path),
            "chunk_size": part,
            "max_concurrency": max(_LEAST_PARTS, parts * _PART // part),
        }
        store = self._sender if size > _PASSING else self._store
        with explained(self.root):
            if moved is unseen:
                self._obstore.put(store, key, path, **options)
                return
            # What is read is ahead of what has arrived, by the parts that are on their way.
            with WatchedFile(path, moved) as file:
                self._obstore.put(store, key, file, **options)


def _is_large(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > _SINGLE_PUT
