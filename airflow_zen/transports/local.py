"""Bytes on a local or mounted filesystem; publishing a directory is one rename."""

from __future__ import annotations

import contextlib
import heapq
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from airflow_zen.artifacts.hashing import HASH_PREFIX, file_hash
from airflow_zen.errors import ArtifactNotFound, SettingsError
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports.base import CHUNK_SIZE, ObjectInfo, Transport

_READ_ONLY_MODE = 0o444
_DIRECTORY_MODE = 0o755


class LocalTransport(Transport):
    """Keep the artifact root in a directory of this machine."""

    def __init__(self, root: str, on_bytes: BytesCallback = ignore_bytes) -> None:
        super().__init__(root, on_bytes)
        self._directory = Path(root)
        self.scratch_directory = self._staging = self._directory / ".staging"
        try:
            self._staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"[zen] artifact_root {root!r} cannot be written: {error.strerror}. Create it, or choose another."
            ) from error

    def local_path(self, key: str) -> Path:
        """Return the path of a key."""
        return self._directory / key

    def download(self, key: str, path: Path, like: str = HASH_PREFIX) -> str:
        """Copy a file, then hash it."""
        with self._translate_errors(key):
            shutil.copyfile(self._directory / key, path)
        return file_hash(path, like)

    def publish(self, directory: Path, prefix: str, last: str) -> None:
        """Rename the whole directory into place.

        A directory that exists stays, and counts as written now; its files are replaced, because they may be damaged.
        """
        self._make_read_only(directory, last)
        target = self._path_with_parent(prefix)
        try:
            directory.rename(target)
        except OSError:
            if not (target / last).exists():
                raise
            for path in directory.rglob("*"):
                name = path.relative_to(directory).as_posix()
                if path.is_file() and name != last:
                    path.replace(self._path_with_parent(f"{prefix}/{name}"))
            with contextlib.suppress(OSError):
                os.utime(target / last)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder, without the sizes that `list_objects` asks for."""
        return (os.path.relpath(entry.path, self._directory) for entry in _walk_files(self._directory / prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete the files, and the folders that this leaves empty."""
        for key in keys:
            self._delete_one(key)

    @contextlib.contextmanager
    def _translate_errors(self, key: str = "") -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if not key:
                raise
            raise ArtifactNotFound(f"Nothing is stored at {self._directory / key}.") from error

    def _read(self, key: str) -> bytes:
        return (self._directory / key).read_bytes()

    def _write(self, key: str, data: bytes) -> None:
        # A rename, so that no reader sees half of the file.
        with self._staged_file(data) as staged:
            staged.replace(self._path_with_parent(key))

    def _create(self, key: str, data: bytes) -> None:
        with self._staged_file(data) as staged:
            os.link(staged, self._path_with_parent(key))

    def _read_range(self, key: str, start: int, end: int) -> bytes:
        with (self._directory / key).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def _size(self, key: str) -> int:
        return (self._directory / key).stat().st_size

    def _chunks(self, key: str) -> Iterator[bytes]:
        with (self._directory / key).open("rb") as file:
            while chunk := file.read(CHUNK_SIZE):
                yield chunk

    def _copy(self, key: str, target: str) -> None:
        with contextlib.suppress(FileExistsError):
            link_or_copy(self._directory / key, self._path_with_parent(target))

    def _list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for entry in _walk_files(self._directory / prefix):
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat()
                yield ObjectInfo(os.path.relpath(entry.path, self._directory), stat.st_size, stat.st_mtime)

    def _first_key(self, prefix: str, after: str) -> str | None:
        return _first_key_after(self._directory / prefix, prefix, after)

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        with os.scandir(self._directory / prefix) as found:
            yield from (entry.name for entry in found if entry.is_dir())

    def _delete_one(self, key: str) -> None:
        path = self._directory / key
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for parent in path.parents:
                if parent == self._directory:
                    break
                parent.rmdir()

    def _make_read_only(self, directory: Path, last: str) -> None:
        for folder, _, names in os.walk(directory):
            Path(folder).chmod(_DIRECTORY_MODE)
            for name in names:
                path = Path(folder, name)
                stat = path.stat()
                path.chmod(stat.st_mode & 0o111 | _READ_ONLY_MODE)
                self._on_bytes(0 if name == last else stat.st_size)

    def _path_with_parent(self, key: str) -> Path:
        path = self._directory / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def _staged_file(self, data: bytes) -> Iterator[Path]:
        staged = self._staging / uuid.uuid4().hex
        try:
            staged.write_bytes(data)
            yield staged
        finally:
            staged.unlink(missing_ok=True)


class ProgressFile(io.FileIO):
    """Read a file, and pass the number of bytes of each read to `on_bytes`."""

    def __init__(self, path: Path, on_bytes: BytesCallback) -> None:
        super().__init__(path)
        self._on_bytes = on_bytes

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        found = super().read(-1 if size is None else size) or b""
        self._on_bytes(len(found))
        return found

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer; return their number."""
        count = super().readinto(buffer) or 0
        self._on_bytes(count)
        return count


def link_or_copy(path: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the filesystem has no links."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(path, target)


def _walk_files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Walk a folder in the order that its keys have as text, one folder's names in memory at a time.

    A folder's keys continue with `/`, so `a.json` comes before `a/b` and `a-b` before both.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name + ("/" if entry.is_dir() else ""))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir():
            yield from _walk_files(entry.path)
        elif entry.is_file():
            yield entry


def _first_key_after(folder: Path, key: str, after: str) -> str | None:
    """Return the first key in a folder after `after`, sorting no more of its names than are looked at."""
    try:
        with os.scandir(folder) as found:
            keys = [f"{key}/{entry.name}{'/' if entry.is_dir() else ''}" for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return None
    keys = [each for each in keys if each > after or (each.endswith("/") and after.startswith(each))]
    heapq.heapify(keys)
    while keys:
        each = heapq.heappop(keys)
        found_key = _first_key_after(folder / each[len(key) + 1 : -1], each[:-1], after) if each.endswith("/") else each
        if found_key is not None:
            return found_key
    return None
