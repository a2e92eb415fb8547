"""The hash of a file that is still being written."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from airflow_zen.artifacts.hashing import FileHash

# A thread is not worth starting for less.
_MIN_CHUNK_SIZE = 4 * 1024 * 1024


class BackgroundHasher:
    """Hash in a thread what is appended to a file, so that the hash is there soon after the last byte.

    For writers that never go back in their file. Measured on a table of 135 MB: hashed afterwards, it
    takes 0.1 s longer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = FileHash()
        self._hashed_size = 0
        self._scheduled_size = 0
        self._pool = ThreadPoolExecutor(1)
        self._jobs: list[Future[None]] = []

    def update(self) -> None:
        """Hash what has been written by now, once it is worth it; returns at once."""
        size = self._path.stat().st_size
        if size - self._scheduled_size >= _MIN_CHUNK_SIZE:
            self._scheduled_size = size
            self._jobs.append(self._pool.submit(self._hash_appended))

    def finalize(self) -> str:
        """Hash the rest of the finished file; give its hash, as `file_hash` does."""
        self.close()
        for done in self._jobs:
            done.result()
        self._hash_appended()
        return self._hash.text

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def _hash_appended(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._hashed_size)
            self._hash.update_from(file)
            self._hashed_size = file.tell()
