"""Hashes of files, against which all bytes are verified before they are used."""

from __future__ import annotations

import hashlib
import io
import math
import re
from pathlib import Path
from typing import Any, BinaryIO

from blake3 import blake3

HASH_PREFIX = "blake3:"
# `hashlib.file_digest` clears a buffer of 256 KB first.
_SMALL_FILE_SIZE = 64 * 1024
_MAX_PENDING_BYTES = 256 * 1024
FILE_HASH = re.compile(rf"(?:{HASH_PREFIX})?[0-9a-f]{{64}}")
"""The pattern of the hashes that `FileHash` returns."""


class FileHash:
    """Hash bytes with BLAKE3; `text` is `blake3:` and 64 hex characters.

    138 MB take 0.03 s of processor time; SHA-256 takes 0.08 s on processors with instructions for it, 0.35 s on others.
    `b3sum` computes the same hash.

    like: a known hash, to compute one of the same kind: without a prefix it is a SHA-256, as in manifests of format 1.
    """

    def __init__(self, like: str = HASH_PREFIX) -> None:
        self._prefix = HASH_PREFIX if like.startswith(HASH_PREFIX) else ""
        self._hash = blake3() if self._prefix else hashlib.sha256()
        self.update = self._hash.update

    @property
    def text(self) -> str:
        """The hash of the bytes added so far."""
        return self._prefix + self._hash.hexdigest()

    def update_from(self, file: BinaryIO) -> None:
        """Add the rest of an open binary file."""
        start = file.read(_SMALL_FILE_SIZE)
        self._hash.update(start)
        if len(start) == _SMALL_FILE_SIZE:
            hashlib.file_digest(file, lambda: self._hash)  # type: ignore[arg-type, return-value]


def file_hash(path: Path, like: str = HASH_PREFIX) -> str:
    """Return the hash of a file, as `FileHash` computes it."""
    found = FileHash(like)
    with path.open("rb") as file:
        found.update_from(file)
    return found.text


def hash_hex(text: str) -> str:
    """Return the 64 hex characters of a hash."""
    return text.removeprefix(HASH_PREFIX)


class HashedFile(io.RawIOBase):
    """Write a new file, and hash its bytes as they are written.

    Measured on a table of 135 MB: reading the file again to hash it takes twice the processor time. Small pieces are
    collected, which BLAKE3 hashes three times as fast.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("wb")
        self._hash = FileHash()
        self._pending = bytearray()
        self._max_pending: float = _MAX_PENDING_BYTES

    @property
    def hash(self) -> str:
        """The hash of the file, as `file_hash` returns it, once it is closed."""
        return self._hash.text

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes; return their number."""
        size, limit = len(data), self._max_pending
        if len(self._pending) + size > limit:
            self._write_pending()
        if size > limit:
            self._append(data)
        else:
            self._pending += data
        return size

    def hold(self) -> bytearray:
        """Return the buffer that receives all later bytes, until `release`."""
        self._write_pending()
        self._max_pending = math.inf
        return self._pending

    def release(self, data: bytes) -> None:
        """Write `data` in place of the held bytes; later bytes are appended again."""
        self._pending[:] = data
        self._max_pending = _MAX_PENDING_BYTES

    def close(self) -> None:
        """Write pending bytes, and close the file."""
        if not self.closed:
            self._write_pending()
            self._file.close()
        super().close()

    def _write_pending(self) -> None:
        self._append(self._pending)
        self._pending.clear()

    def _append(self, data: Any) -> None:
        self._hash.update(data)
        self._file.write(data)
