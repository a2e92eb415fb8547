"""A local file that says how much of it was read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from airflow_zen.progress import BytesCallback


class ProgressFile(io.FileIO):
    """Read a file, and tell `on_bytes` of the bytes that each read gave."""

    def __init__(self, path: Path, on_bytes: BytesCallback) -> None:
        super().__init__(path)
        self._on_bytes = on_bytes

    def read(self, size: int | None = -1) -> bytes:
        """Give the next bytes."""
        found = super().read(-1 if size is None else size) or b""
        self._on_bytes(len(found))
        return found

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer."""
        count = super().readinto(buffer) or 0
        self._on_bytes(count)
        return count
