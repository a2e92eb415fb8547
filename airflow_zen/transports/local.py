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

from airflow_zen.artifacts.hashing import HASH_PREFIX, FileHash, file_hash
from airflow_zen.errors import AlreadyExists, ArtifactNotFound, SettingsError
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports.base import ObjectInfo, key_of_url

_READ_ONLY_MODE = 0o444
_DIRECTORY_MODE = 0o755


class LocalTransport:
    """Keep the artifact root in a directory of this machine."""

    def __init__(self, root: str, on_bytes: BytesCallback = ignore_bytes) -> None:
        self.root = Path(root)
        self._on_bytes = on_bytes
        self._staging = self.root / ".staging"
        self.scratch_directory: Path | None = self._staging
        try:
            self._staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"[zen] artifact_root {root!r} cannot be written: {error.strerror}. Create it, or choose another."
            ) from error

    def read(self, key: str) -> bytes:
        """Read one file."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactNotFound(f"Nothing is stored at {self.root / key}.") from error

    def write(self, key: str, data: bytes) -> None:
        """Write beside the key and rename, so that no reader sees half of it."""
        with self._staged_file(data) as staged:
            staged.replace(self._path_with_parent(key))

    def create(self, key: str, data: bytes) -> None:
        """Link the finished file to the key; the filesystem lets one of several win."""
        with self._staged_file(data) as staged:
            try:
                os.link(staged, self._path_with_parent(key))
            except FileExistsError as error:
                raise AlreadyExists(f"{self.root / key} exists.") from error

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Read a part of a file."""
        try:
            with (self.root / key).open("rb") as file:
                file.seek(start)
                return file.read(end - start)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactNotFound(f"Nothing is stored at {self.root / key}.") from error

    def size(self, key: str) -> int:
        """Ask the filesystem."""
        try:
            return (self.root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactNotFound(f"Nothing is stored at {self.root / key}.") from error

    def object_store_options(self) -> None:
        """Local files need none."""

    def stream(self, key: str) -> None:
        """Stream nothing: files are read where they lie."""

    def download(self, key: str, path: Path, like: str = HASH_PREFIX) -> str:
        """Copy the file out, then hash it."""
        try:
            shutil.copyfile(self.root / key, path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactNotFound(f"Nothing is stored at {self.root / key}.") from error
        return file_hash(path, like)

    def checksum(self, key: str) -> tuple[int, str]:
        """Hash the file."""
        path = self.root / key
        try:
            with ProgressFile(path, self._on_bytes) as file:
                found = FileHash()
                found.update_from(file)
                return path.stat().st_size, found.text
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ArtifactNotFound(f"Nothing is stored at {path}.") from error

    def local_path(self, key: str) -> Path | None:
        """Give the path itself: nothing needs to be fetched."""
        return self.root / key

    def publish(self, directory: Path, prefix: str, last: str) -> None:
        """Rename the whole directory into place.

        One that is there already stays, and counts as written now; its files are replaced, for they may be damaged.
        """
        for folder, _, names in os.walk(directory):
            Path(folder).chmod(_DIRECTORY_MODE)
            for name in names:
                path = Path(folder, name)
                facts = path.stat()
                path.chmod(facts.st_mode & 0o111 | _READ_ONLY_MODE)
                self._on_bytes(0 if name == last else facts.st_size)
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

    def copy(self, prefix: str, url: str, names: Iterable[str]) -> None:
        """Hard-link the files, or copy where the filesystem has no links."""
        key = key_of_url(str(self.root), url)
        for name in names:
            target = self._path_with_parent(f"{key}/{name}")
            try:
                os.link(self.root / prefix / name, target)
            except FileExistsError:
                continue
            except OSError:
                shutil.copyfile(self.root / prefix / name, target)

    def exists(self, key: str) -> bool:
        """Ask the filesystem."""
        return (self.root / key).exists()

    def list(self, prefix: str) -> Iterator[str]:
        """Walk the folder in order."""
        for entry in _walk_files(self.root / prefix):
            yield os.path.relpath(entry.path, self.root)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Walk the folder in order, and ask the filesystem of each file."""
        for entry in _walk_files(self.root / prefix):
            with contextlib.suppress(FileNotFoundError):
                facts = entry.stat()
                yield ObjectInfo(os.path.relpath(entry.path, self.root), facts.st_size, facts.st_mtime)

    def first_key(self, prefix: str, after: str = "") -> str | None:
        """Look through the names of one folder, and of those below it only where the first key may lie."""
        return _first_key_after(self.root / prefix, prefix, after)

    def list_prefixes(self, prefix: str) -> Iterator[str]:
        """Look through the names of one folder."""
        try:
            with os.scandir(self.root / prefix) as found:
                yield from sorted(entry.name for entry in found if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return

    def delete(self, keys: Iterable[str]) -> None:
        """Unlink the files, and the folders that this leaves empty."""
        for key in keys:
            path = self.root / key
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for parent in path.parents:
                    if parent == self.root:
                        break
                    parent.rmdir()

    def _path_with_parent(self, key: str) -> Path:
        path = self.root / key
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


def _walk_files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Walk a folder in the order that its keys have as text, one folder's names in memory at a time.

    A folder's keys go on with `/`, so `a.json` comes before `a/b` and `a-b` before both.
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
    """Give the first key in a folder after `after`, sorting no more of its names than are looked at."""
    try:
        with os.scandir(folder) as found:
            keys = [f"{key}/{entry.name}{'/' if entry.is_dir() else ''}" for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return None
    keys = [held for held in keys if held > after or (held.endswith("/") and after.startswith(held))]
    heapq.heapify(keys)
    while keys:
        held = heapq.heappop(keys)
        inner = _first_key_after(folder / held[len(key) + 1 : -1], held[:-1], after) if held.endswith("/") else held
        if inner is not None:
            return inner
    return None


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
