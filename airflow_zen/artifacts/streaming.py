"""A remote file that is read from front to back while it arrives."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from threading import Condition, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_zen.artifacts.hashing import FileHash
from airflow_zen.artifacts.ref import ArtifactFile, corrupt_error, missing_error
from airflow_zen.errors import ArtifactNotFound, ZenError

if TYPE_CHECKING:
    from airflow_zen.transports.base import Transport


class SeekableReader(io.RawIOBase):
    """Keep the place at which a subclass's `read` goes on, `_position`, in a file of `_size` bytes; moving it costs nothing."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        found = self.read(len(buffer)) or b""
        buffer[: len(found)] = found
        return len(found)

    def _read_end(self, size: int | None) -> int:
        """Give where a read of `size` bytes ends."""
        return self._size if size is None or size < 0 else min(self._size, self._position + size)


# How far the thread may be ahead of what the reader has let go: more is not faster, and is memory that must be made anew.
_MAX_READ_AHEAD = 12 * 1024 * 1024


class VerifiedStream(SeekableReader):
    """Give an object's bytes as they come, each once, and hold all of them to the file's hash when the `with` ends.

    A thread receives and hashes while the reader decodes, so nothing is written to disk, and no more is in memory
    than the reader has not discarded (`discard_before`). What is made of the bytes may be used when `with` has ended: it raises
    `ArtifactCorrupt` where they are damaged, also in place of the error that a reader met in damaged bytes.

    Readers of tables look at the end of a file first: until one calls `read_sequentially`,
    what is not here yet is fetched by a request of its own.
    """

    def __init__(self, transport: Transport, key: str, chunks: Iterator[memoryview], file: ArtifactFile) -> None:
        super().__init__(file.size)
        self._transport, self._key, self._file = transport, key, file
        self._chunks = chunks
        self._hash = FileHash(file.hash)
        self._condition = Condition()
        self._buffer: deque[memoryview] = deque()
        # Where what is held begins and ends, where what was asked for ends, and up to where all may be forgotten.
        self._buffer_start = self._received_bytes = self._requested_end = self._discard_end = 0
        self._finished = self._sequential = False
        self._failure: BaseException | None = None
        self._separate_reads: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        Thread(target=self._receive, name="airflow-zen-arriving", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None or (isinstance(error, Exception) and not isinstance(error, ZenError)):
                self._verify(error)
        finally:
            with self._condition:
                self._finished = True
                self._buffer.clear()
                self._condition.notify_all()

    def read_sequentially(self) -> None:
        """Wait for bytes from now on, instead of asking for them apart."""
        self._sequential = True

    def read(self, size: int = -1) -> bytes:
        """Give bytes from the position, once they are here; they must not have been let go."""
        begin, end = self._position, self._read_end(size)
        if end <= begin:
            return b""
        found = b"".join(self._wait_for_range(begin, end)) if self._sequential else self._fetch_range(begin, end)
        self._position = end
        return found

    def readinto(self, buffer: Any) -> int:
        """Copy bytes to where they are wanted, straight from where they arrived."""
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
        """Forget the bytes before `end`, but for those that were fetched apart and are still to be compared."""
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
            # Noted before the request, so that the thread's bytes of that place stay.
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
        """Give some bytes as they arrived."""
        starts = list(accumulate(map(len, self._buffer), initial=self._buffer_start))
        first, last = bisect_right(starts, begin) - 1, bisect_right(starts, end - 1)
        return [
            self._buffer[number][max(0, begin - starts[number]) : end - starts[number]] for number in range(first, last)
        ]

    def _receive(self) -> None:
        # Kept nowhere else, so that what gives the pieces is closed when the thread ends.
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

    def _verify(self, met: Exception | None) -> None:
        """Wait for the last byte, and hold all to the hash; of what comes after an error nothing is kept."""
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
                raise corrupt_error(self._key, self._file) from met

    def _raise_failure(self) -> None:
        if isinstance(self._failure, ArtifactNotFound):
            raise missing_error(self._key) from self._failure
        if self._failure:
            raise self._failure
