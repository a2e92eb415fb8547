"""A remote file that is read from front to back while it arrives."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from threading import Condition, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_zen.artifacts.hashing import FileHash
from airflow_zen.artifacts.positioned import PositionedFile
from airflow_zen.artifacts.ref import ArtifactFile, damaged, gone
from airflow_zen.errors import ArtifactNotFound, ZenError

if TYPE_CHECKING:
    from airflow_zen.artifacts.transport import Transport

# How far the thread may be ahead of what the reader has let go: more is not faster, and is memory that must be made anew.
_AHEAD = 12 * 1024 * 1024


class ArrivingFile(PositionedFile):
    """Give an object's bytes as they come, each once, and hold all of them to the file's hash when the `with` ends.

    A thread receives and hashes while the reader decodes, so nothing is written to disk, and no more is in memory
    than the reader has not `let_go` of. What is made of the bytes may be used when `with` has ended: it raises
    `ArtifactCorrupt` where they are damaged, also in place of the error that a reader met in damaged bytes.

    Readers of tables look at the end of a file first: until one says that it will `follow` the bytes from the front,
    what is not here yet is fetched by a request of its own.
    """

    def __init__(self, transport: Transport, key: str, pieces: Iterator[memoryview], file: ArtifactFile) -> None:
        super().__init__(file.size)
        self._transport, self._key, self._file = transport, key, file
        self._pieces = pieces
        self._hash = FileHash(file.hash)
        self._changed = Condition()
        self._held: deque[memoryview] = deque()
        # Where what is held begins and ends, where what was asked for ends, and up to where all may be forgotten.
        self._begin = self._arrived = self._wanted = self._forgotten = 0
        self._ended = self._following = False
        self._failed: BaseException | None = None
        self._tails: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        Thread(target=self._receive, name="airflow-zen-arriving", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None or (isinstance(error, Exception) and not isinstance(error, ZenError)):
                self._verify(error)
        finally:
            with self._changed:
                self._ended = True
                self._held.clear()
                self._changed.notify_all()

    def follow(self) -> None:
        """Wait for bytes from now on, instead of asking for them apart."""
        self._following = True

    def read(self, size: int = -1) -> bytes:
        """Give bytes from the position, once they are here; they must not have been let go."""
        begin, end = self._at, self._until(size)
        if end <= begin:
            return b""
        found = b"".join(self._received(begin, end)) if self._following else self._fetched(begin, end)
        self._at = end
        return found

    def readinto(self, buffer: Any) -> int:
        """Copy bytes to where they are wanted, straight from where they arrived."""
        begin, end = self._at, self._until(len(buffer))
        if not self._following or end <= begin:
            return super().readinto(buffer)
        filled = 0
        for part in self._received(begin, end):
            buffer[filled : filled + len(part)] = part
            filled += len(part)
        self._at = end
        return filled

    def let_go(self, end: int) -> None:
        """Forget the bytes before `end`, but for those that were fetched apart and are still to be compared."""
        with self._changed:
            self._forgotten = max(self._forgotten, end)
            self._forget()
            self._changed.notify_all()

    def _forget(self) -> None:
        end = min([self._forgotten, *self._tails])
        while self._held and self._begin + len(self._held[0]) <= end:
            self._begin += len(self._held.popleft())

    def _fetched(self, begin: int, end: int) -> bytes:
        with self._changed:
            if self._arrived >= end:
                return b"".join(self._parts(begin, end))
            # Noted before the request, so that the thread's bytes of that place stay.
            self._tails.setdefault(begin, b"")
        found = self._tails[begin] = self._transport.read_range(self._key, begin, end)
        return found

    def _received(self, begin: int, end: int) -> list[memoryview]:
        with self._changed:
            self._wanted = max(self._wanted, end)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._arrived >= end or self._ended)
            self._check()
            if begin < self._begin or self._arrived < end:
                raise damaged(self._key, self._file)
            return self._parts(begin, end)

    def _parts(self, begin: int, end: int) -> list[memoryview]:
        """Give some bytes as they arrived."""
        starts = list(accumulate(map(len, self._held), initial=self._begin))
        first, last = bisect_right(starts, begin) - 1, bisect_right(starts, end - 1)
        return [
            self._held[number][max(0, begin - starts[number]) : end - starts[number]] for number in range(first, last)
        ]

    def _receive(self) -> None:
        # Kept nowhere else, so that what gives the pieces is closed when the thread ends.
        pieces, self._pieces = self._pieces, iter(())
        try:
            for piece in pieces:
                self._hash.update(piece)
                with self._changed:
                    if self._ended:
                        return
                    self._held.append(piece)
                    self._arrived += len(piece)
                    self._forget()
                    self._changed.notify_all()
                    if self._arrived > self._size:
                        return
                    self._changed.wait_for(self._is_wanted)
        except BaseException as error:  # noqa: BLE001 - the reader raises it
            self._failed = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _is_wanted(self) -> bool:
        return self._ended or self._arrived < self._wanted or self._arrived - self._begin <= _AHEAD

    def _verify(self, met: Exception | None) -> None:
        """Wait for the last byte, and hold all to the hash; of what comes after an error nothing is kept."""
        with self._changed:
            self._wanted = self._forgotten = self._size + 1
            self._forget()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended)
            self._check()
            whole = self._arrived == self._size and self._hash.text == self._file.hash
            if not whole or any(b"".join(self._parts(at, at + len(tail))) != tail for at, tail in self._tails.items()):
                raise damaged(self._key, self._file) from met

    def _check(self) -> None:
        if isinstance(self._failed, ArtifactNotFound):
            raise gone(self._key) from self._failed
        if self._failed:
            raise self._failed
