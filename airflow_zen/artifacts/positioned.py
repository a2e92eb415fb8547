"""A position in a file of known size."""

from __future__ import annotations

import io
from typing import Any


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
