"""A cache of verified remote files on a worker's own disk, by hash, shared by all tasks of the worker."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from airflow_zen.artifacts.hashing import FILE_HASH, file_hash, hash_hex
from airflow_zen.artifacts.ref import ArtifactFile
from airflow_zen.errors import ArtifactRefused, SettingsError
from airflow_zen.transports.local import link_or_copy
from airflow_zen.transports.scratch import ScratchFolder

_READ_ONLY_MODE = 0o444
_LOCKS = "locks"
_TEMPORARY = "lent"
_GROWTH_LOG = "grown"
_EVICTION_MARGIN = 0.01


class ReadCache:
    """Keep at most `max_bytes` of the files that were used last.

    A file appears by one rename after it was verified, and is never written again. A reader holds a hard link, so
    evicting a file does not affect a running task. Locks are the kernel's and end with their process. Files that a
    killed process left are removed later. `scratch` is on the cache's own disk, where hard links to its files work.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.scratch = ScratchFolder(directory / _TEMPORARY)
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (_LOCKS, _TEMPORARY):
                (directory / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(
                f"[zen] local_cache_dir {str(directory)!r} cannot be written: {error.strerror}. Choose another, or leave it empty."
            ) from error
        _check_owner(directory)

    def fetch(
        self, file: ArtifactFile, target: Path, download: Callable[[Path], None], *, private: bool = False
    ) -> None:
        """Put a file at `target`, from the cache or by `download`, which verifies it.

        Of several processes that need the same file one downloads it. `private` asks for a copy, which user code may
        change.
        """
        if file.size > self.max_bytes:
            download(target)
            return
        if self._serve_cached(file, target, private=private):
            return
        with self._lock(hash_hex(file.hash)[:2]):
            if self._serve_cached(file, target, private=private):
                return
            download_path = self.scratch.path / uuid.uuid4().hex
            try:
                download(download_path)
                download_path.chmod(_READ_ONLY_MODE)
                (shutil.copyfile if private else link_or_copy)(download_path, target)
                self._path(file).parent.mkdir(exist_ok=True, mode=0o700)
                download_path.replace(self._path(file))
            finally:
                download_path.unlink(missing_ok=True)
        if self._needs_eviction_after(file.size):
            self.evict()

    def has(self, file: ArtifactFile) -> bool:
        """Whether a file is in the cache."""
        return self._path(file).exists()

    def evict(self) -> None:
        """Remove the least recently used files, and files that killed processes left; one process at a time."""
        with self._lock("evict", wait=False) as acquired:
            if not acquired:
                return
            known = sorted(self._files(), key=lambda entry: entry[1].st_mtime)
            total = sum(stat.st_size for _, stat in known)
            (self.directory / _GROWTH_LOG).unlink(missing_ok=True)
            for path, stat in known:
                if total <= self.max_bytes * (1 - _EVICTION_MARGIN):
                    break
                path.unlink(missing_ok=True)
                total -= stat.st_size
            self.scratch.remove_abandoned()

    def _needs_eviction_after(self, size: int) -> bool:
        """Log a new file; return whether all processes added a hundredth of the cache's size since the last eviction.

        An eviction lists every file. It leaves that hundredth free, so that the cache stays within its size.
        """
        with (self.directory / _GROWTH_LOG).open("a+") as grown:
            grown.write(f"{size}\n")
            grown.flush()
            grown.seek(0)
            return sum(int(line) for line in grown) >= self.max_bytes * _EVICTION_MARGIN

    def _serve_cached(self, file: ArtifactFile, target: Path, *, private: bool) -> bool:
        path = self._path(file)
        try:
            # A machine that lost power may have kept the name without the bytes: once after each boot these are verified
            # again. Each use sets a file's change time.
            stat = path.stat()
            booted = time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
            verified = stat.st_ctime > booted or file_hash(path, file.hash) == file.hash
            if stat.st_size != file.size or not verified:
                path.unlink()
                return False
            os.utime(path)
            (shutil.copyfile if private else link_or_copy)(path, target)
        except FileNotFoundError:
            return False
        return True

    def _path(self, file: ArtifactFile) -> Path:
        """Return a file's path; the hash is validated again, because the path may be deleted."""
        if not FILE_HASH.fullmatch(file.hash):
            raise ArtifactRefused(f"The file {file.path!r} has no hash, got {file.hash!r}. Run its step again.")
        name = hash_hex(file.hash)
        return self.directory / name[:2] / name

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder in self.directory.glob("??"):
            for entry in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):
                    yield Path(entry.path), entry.stat()

    @contextlib.contextmanager
    def _lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold a lock; yield whether it was acquired, which it always is with `wait`."""
        descriptor = os.open(self.directory / _LOCKS / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


def _check_owner(directory: Path) -> None:
    """Raise `SettingsError` for a directory in which another user could put files: these are read as verified."""
    status = directory.stat()
    if status.st_uid != os.geteuid():
        reason = (
            f"belongs to the user id {status.st_uid}, and this process is {os.geteuid()}. Choose a directory of its own"
        )
    elif status.st_mode & 0o022:
        reason = f"can be written by other users (mode {status.st_mode & 0o777:o}). Run: chmod go-w {directory}"
    else:
        return
    raise SettingsError(f"[zen] local_cache_dir {str(directory)!r} {reason}.")
