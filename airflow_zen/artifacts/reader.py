"""Lazy access to the files of one artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef, corrupt_error
from airflow_zen.artifacts.streaming import SeekableReader, VerifiedStream

if TYPE_CHECKING:
    from airflow_zen.artifacts.store import ArtifactStore
    from airflow_zen.errors import ArtifactCorrupt
    from airflow_zen.transports.base import Transport

# One request for a smaller file costs about as much as several for parts of it, and returns verified bytes.
_MIN_RANGE_READ_SIZE = 8 * 1024 * 1024


class ArtifactReader:
    """Fetch a whole artifact, verified, or open one of its files to read parts of it in place.

    Parts are verified by the file's size only: its hash needs all bytes.
    """

    def __init__(self, store: ArtifactStore, ref: ArtifactRef, into: Path) -> None:
        self._store = store
        self._ref = ref
        self._into = into
        self._local_directory: Path | None = None

    def directory(self) -> Path:
        """Return a directory with the whole artifact, which is fetched once."""
        if self._local_directory is None:
            self._local_directory = self._store.get(self._ref, self._into)
        return self._local_directory

    def open(self, name: str) -> Path | RangeReader:
        """Return the verified local path of a file, or a reader of parts for a large remote one."""
        file = None if self._local_directory else self._remote_file(name)
        if file is None:
            return self.directory() / name
        return RangeReader(self._store.transport, self._store.key_of(self._ref, name), file)

    def stream(self, name: str) -> VerifiedStream | None:
        """Return a stream to read a large remote file once while it arrives; None for a file that is kept on disk."""
        file = self._remote_file(name)
        if file is None or self._store.is_cacheable(file):
            return None
        key = self._store.key_of(self._ref, name)
        pieces = self._store.transport.stream(key)
        return VerifiedStream(self._store.transport, key, pieces, file) if pieces else None

    def object_store_url(self, name: str) -> tuple[str, Mapping[str, str]] | None:
        """Return URL and options with which another `object_store` client reads a file; None to `open` it instead.

        Raises `ArtifactRefused` for a ref outside the root, because the options hold the store's credentials.
        """
        options = self._store.transport.object_store_options()
        if options is None or self._remote_file(name) is None:
            return None
        return f"{self._store.root}/{self._store.key_of(self._ref, name)}", options

    def _remote_file(self, name: str) -> ArtifactFile | None:
        """Return the ref's only file if it is remote, and large enough for more than one request."""
        if self._store.is_local or len(self._ref.files) != 1:
            return None
        file = self._ref.files[0]
        large = file.path == name and file.size >= _MIN_RANGE_READ_SIZE
        return file if large and not self._store.is_cached(file) else None


class RangeReader(SeekableReader):
    """Read parts of a remote object with requests for byte ranges."""

    def __init__(self, transport: Transport, key: str, file: ArtifactFile) -> None:
        super().__init__(file.size)
        self._transport = transport
        self._key = key
        self._file = file
        if transport.size(key) != file.size:
            raise self.corrupt_error()

    def corrupt_error(self) -> ArtifactCorrupt:
        """Return the error for bytes that differ from those that were stored."""
        return corrupt_error(self._key, self._file)

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the position; one request."""
        end = self._read_end(size)
        if end <= self._position:
            return b""
        found = self._transport.read_range(self._key, self._position, end)
        if len(found) != end - self._position:
            raise self.corrupt_error()
        self._position = end
        return found
