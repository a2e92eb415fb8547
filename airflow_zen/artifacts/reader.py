"""Lazy access to the files of one artifact: whole, in parts, or while they arrive."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_zen.artifacts.folder import mark_damaged
from airflow_zen.artifacts.hashing import FileHash
from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef, corrupt_error, missing_error
from airflow_zen.errors import ArtifactNotFound, StoreUnavailable, ZenError

if TYPE_CHECKING:
    from airflow_zen.artifacts.store import ArtifactStore
    from airflow_zen.transports.base import Transport

# One request for a smaller file costs about as much as several for parts of it, and returns verified bytes.
_MIN_RANGE_READ_SIZE = 8 * 1024 * 1024
# How far the thread may be ahead of what the reader has discarded: more is not faster, and takes fresh memory.
_MAX_READ_AHEAD = 12 * 1024 * 1024


class ArtifactReader:
    """Fetch a whole artifact, verified, or open one of its files to read parts of it in place.

    Parts are verified by the file's size only: its hash needs all bytes. `streams`: whether `stream` may return a
    stream; `has_streamed` whether it did.
    """

    def __init__(self, store: ArtifactStore, ref: ArtifactRef, into: Path, *, streams: bool = True) -> None:
        self._store = store
        self._ref = ref
        self._into = into
        self._streams = streams
        self.has_streamed = False
        self._local_directory: Path | None = None

    def __str__(self) -> str:
        return self._ref.uri

    def directory(self) -> Path:
        """Return a directory with the whole artifact, which is fetched once."""
        if self._local_directory is None:
            self._local_directory = self._store.get(self._ref, self._into)
        return self._local_directory

    def libraries(self) -> Mapping[str, str]:
        """Return the versions that wrote the artifact, from its manifest; one request."""
        return self._store.manifest(self._ref).libraries

    def open(self, name: str) -> Path | RangeReader:
        """Return the verified local path of a file, or a reader of parts for a large remote one."""
        file = None if self._local_directory else self._remote_file(name)
        if file is None:
            return self.directory() / name
        return RangeReader(self._store.transport, self._store.key_of(self._ref, name), file)

    def stream(self, name: str) -> VerifiedStream | None:
        """Return a stream that reads a large remote file once while it is downloaded; None for a file kept on disk."""
        file = self._remote_file(name)
        if file is None or not self._streams or self._store.is_cacheable(file):
            return None
        key = self._store.key_of(self._ref, name)
        pieces = self._store.transport.stream(key)
        self.has_streamed = pieces is not None
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


class SeekableReader(io.RawIOBase):
    """Provide seeking for the `read` of a subclass, by `_position` in a file of `_size` bytes, without requests."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, and return it."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return the number of bytes."""
        found = self.read(len(buffer)) or b""
        buffer[: len(found)] = found
        return len(found)

    def _read_end(self, size: int | None) -> int:
        """Return where a read of `size` bytes ends."""
        return self._size if size is None or size < 0 else min(self._size, self._position + size)


class RangeReader(SeekableReader):
    """Read parts of a remote object with requests for byte ranges."""

    def __init__(self, transport: Transport, key: str, file: ArtifactFile) -> None:
        super().__init__(file.size)
        self._transport = transport
        self._key = key
        self._file = file
        if transport.size(key) != file.size:
            raise self.corrupt_error()

    def corrupt_error(self) -> ZenError:
        """Return the error for damaged bytes, after reading all bytes once more.

        Damage in the store is marked, so that the step that made the artifact makes it again.
        """
        if self._transport.checksum(self._key, self._file.hash) == (self._file.size, self._file.hash):
            return StoreUnavailable(f"Parts of {self._key} arrived damaged, but are stored whole. Run the task again.")
        with suppress(ZenError, OSError):
            mark_damaged(self._transport, self._key.split("/")[2])
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


class VerifiedStream(SeekableReader):
    """Read an object's bytes once, as they arrive, and verify the file's hash when the `with` block ends.

    A thread receives and hashes while the reader decodes, so nothing is written to disk, and memory only holds what
    the reader has not discarded (`discard_before`). Use values made of the bytes only after the `with` block: its end
    raises `ArtifactCorrupt` for damaged bytes, also in place of an error that a reader raised because of them.

    Readers of tables read the end of a file first: until one calls `read_sequentially`, bytes that have not arrived
    are fetched by a request of their own.
    """

    def __init__(self, transport: Transport, key: str, chunks: Iterator[memoryview], file: ArtifactFile) -> None:
        super().__init__(file.size)
        self._transport, self._key, self._file = transport, key, file
        self._chunks = chunks
        self._hash = FileHash(file.hash)
        self._condition = Condition()
        self._buffer: deque[memoryview] = deque()
        # Positions: begin and end of the buffer, end of what was requested, and end of what may be discarded.
        self._buffer_start = self._received_bytes = self._requested_end = self._discard_end = 0
        self._finished = self._sequential = False
        self._failure: BaseException | None = None
        self._separate_reads: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        Thread(target=self._receive, name="airflow-zen-arriving", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            # A store refuses a range that a shorter object does not have.
            may_be_damage = isinstance(error, StoreUnavailable) or not isinstance(error, ZenError)
            if error is None or (isinstance(error, Exception) and may_be_damage):
                self._verify(error)
        finally:
            with self._condition:
                self._finished = True
                self._buffer.clear()
                self._condition.notify_all()

    def read_sequentially(self) -> None:
        """Wait for bytes from now on, instead of requesting them separately."""
        self._sequential = True

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the position once they have arrived; they must not have been discarded."""
        begin, end = self._position, self._read_end(size)
        if end <= begin:
            return b""
        found = b"".join(self._wait_for_range(begin, end)) if self._sequential else self._fetch_range(begin, end)
        self._position = end
        return found

    def readinto(self, buffer: Any) -> int:
        """Copy bytes from the buffers in which they arrived into `buffer`; return their number."""
        begin, end = self._position, self._read_end(len(buffer))
        if not self._sequential or end <= begin:
            return super().readinto(buffer)
        filled = 0
        for part in self._wait_for_range(begin, end):
            buffer[filled : filled + len(part)] = part
            filled += len(part)
        self._position = end
        return filled

    def discard_before(self, end: int) -> None:
        """Discard the bytes before `end`, except those from separate reads, which are still to be compared."""
        with self._condition:
            self._discard_end = max(self._discard_end, end)
            self._drop_discarded()
            self._condition.notify_all()

    def _drop_discarded(self) -> None:
        end = min([self._discard_end, *self._separate_reads])
        while self._buffer and self._buffer_start + len(self._buffer[0]) <= end:
            self._buffer_start += len(self._buffer.popleft())

    def _fetch_range(self, begin: int, end: int) -> bytes:
        with self._condition:
            if self._received_bytes >= end:
                return b"".join(self._buffered_slices(begin, end))
            # Set before the request, so that the thread keeps its bytes of that range.
            self._separate_reads.setdefault(begin, b"")
        found = self._separate_reads[begin] = self._transport.read_range(self._key, begin, end)
        return found

    def _wait_for_range(self, begin: int, end: int) -> list[memoryview]:
        with self._condition:
            self._requested_end = max(self._requested_end, end)
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._received_bytes >= end or self._finished)
            self._raise_failure()
            if begin < self._buffer_start or self._received_bytes < end:
                raise corrupt_error(self._key, self._file)
            return self._buffered_slices(begin, end)

    def _buffered_slices(self, begin: int, end: int) -> list[memoryview]:
        """Return a range of bytes in the pieces in which they arrived."""
        starts = list(accumulate(map(len, self._buffer), initial=self._buffer_start))
        first, last = bisect_right(starts, begin) - 1, bisect_right(starts, end - 1)
        return [
            self._buffer[number][max(0, begin - starts[number]) : end - starts[number]] for number in range(first, last)
        ]

    def _receive(self) -> None:
        # The only reference, so that the generator is closed when the thread ends.
        chunks, self._chunks = self._chunks, iter(())
        try:
            for piece in chunks:
                self._hash.update(piece)
                with self._condition:
                    if self._finished:
                        return
                    self._buffer.append(piece)
                    self._received_bytes += len(piece)
                    self._drop_discarded()
                    self._condition.notify_all()
                    if self._received_bytes > self._size:
                        return
                    self._condition.wait_for(self._should_receive)
        except BaseException as error:  # noqa: BLE001 - the reader raises it
            self._failure = error
        finally:
            with self._condition:
                self._finished = True
                self._condition.notify_all()

    def _should_receive(self) -> bool:
        return (
            self._finished
            or self._received_bytes < self._requested_end
            or self._received_bytes - self._buffer_start <= _MAX_READ_AHEAD
        )

    def _verify(self, cause: Exception | None) -> None:
        """Wait for the last byte, and verify all against the hash; after an error no more bytes are kept."""
        with self._condition:
            self._requested_end = self._discard_end = self._size + 1
            self._drop_discarded()
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._finished)
            self._raise_failure()
            whole = self._received_bytes == self._size and self._hash.text == self._file.hash
            if not whole or any(
                b"".join(self._buffered_slices(at, at + len(tail))) != tail for at, tail in self._separate_reads.items()
            ):
                raise corrupt_error(self._key, self._file) from cause

    def _raise_failure(self) -> None:
        if isinstance(self._failure, ArtifactNotFound):
            raise missing_error(self._key) from self._failure
        if self._failure:
            raise self._failure
