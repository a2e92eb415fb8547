"""Bytes on a local or mounted filesystem; publishing a directory is one rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import heapq
import io
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from airflow_zen.artifacts.hashing import HASH_PREFIX, file_hash
from airflow_zen.errors import ArtifactNotFound, SettingsError
from airflow_zen.progress import BytesCallback, ignore_bytes
from airflow_zen.transports.base import CHUNK_SIZE, ObjectInfo, Transport, run_in_parallel
from airflow_zen.transports.scratch import ScratchFolder

_READ_ONLY_MODE, _WRITABLE_MODE = 0o444, 0o666
# Records and keys of the cache name parameters: they are nobody's business outside the group.
_PRIVATE = ("cache/", "refused/", "runs/")
# What a power loss may damage: a cache entry or lease that cannot be read costs a computation.
_NOT_SYNCED = ("cache/", "prune/", "undelivered.turn/", "probe/")
# A filesystem with a journal keeps with the name of the record, which a step writes at its end, all earlier names.
_SYNCED_AT_LAST = "runs/"
_FOLDER_EXISTS = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_MAX_RENAMES = 100
_MIN_SYNC_BYTES = 8 * 1024 * 1024
# From <linux/fs.h>; Python names it since 3.12.
_FICLONE = 0x40049409


class LocalTransport(Transport):
    """Keep the artifact root in a directory of this machine.

    sync_to_disk: whether files are written to the disk before the rename that publishes them, so that after a power
    loss they are complete or absent; files of a step are all on the disk when its record is written. Folders and files
    have the group permissions of the root.
    """

    def __init__(self, root: str, on_bytes: BytesCallback = ignore_bytes, *, sync_to_disk: bool = False) -> None:
        super().__init__(root, on_bytes)
        self._directory = Path(root)
        self.syncs_to_disk = sync_to_disk
        self.scratch_directory = self._directory / ".staging"
        self.scratch = ScratchFolder(self.scratch_directory, lasting=False)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._mode = stat.S_IMODE(self._directory.stat().st_mode) & 0o2777 | stat.S_IRWXU
            self._make_folder(self.scratch_directory)
        except OSError as error:
            raise SettingsError(
                f"[zen] artifact_root {root!r} cannot be written: {error.strerror}. Make it a folder that this user may "
                "write, or choose another."
            ) from error

    def local_path(self, key: str) -> Path:
        """Return the path of a key."""
        return self._directory / key

    def download(self, key: str, path: Path, like: str = HASH_PREFIX) -> str:
        """Copy a file, then hash it."""
        with self._translate_errors(key):
            shutil.copyfile(self._directory / key, path)
        return file_hash(path, like)

    def hash_new(self, path: Path) -> str:
        """Return the hash of a file; a large one is written to the disk meanwhile, for which `publish` would wait."""
        if not self.syncs_to_disk or path.stat().st_size < _MIN_SYNC_BYTES:
            return file_hash(path)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(_sync, path)
            found = file_hash(path)
            writing.result()
        return found

    def publish(self, directory: Path, prefix: str, last: str) -> None:
        """Rename the whole directory into place.

        In a folder that exists the files are replaced one by one, the one named `last` after all others; they may be
        damaged, or about to be deleted. Then `directory` keeps its files.
        """
        self._prepare(directory, prefix, last)
        try:
            self._rename(directory, prefix)
        except OSError as error:
            if error.errno not in _FOLDER_EXISTS:
                raise
            names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
            for name in sorted(names, key=lambda name: name == last):
                staged = self.scratch.path / uuid.uuid4().hex
                link_or_copy(directory / name, staged)
                self._rename(staged, f"{prefix}/{name}")

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder, without the sizes that `list_objects` reads."""
        return (self._key(entry.path) for entry in _walk_files(self._directory / prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete the files, and folders that are empty then."""
        for key in keys:
            self._delete_one(key)

    def together(self, *calls: Callable[[], Any]) -> tuple[Any, ...]:
        """Make the calls one after the other."""
        return tuple(call() for call in calls)

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
        with self._staged_file(key, data) as staged:
            self._rename(staged, key)

    def _create(self, key: str, data: bytes) -> None:
        with self._staged_file(key, data) as staged:
            self._move(lambda target: os.link(staged, target), key)

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
            self._move(lambda path: link_or_copy(self._directory / key, path), target)

    def _list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for entry in _walk_files(self._directory / prefix):
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat()
                yield ObjectInfo(self._key(entry.path), found.st_size, found.st_mtime)

    def _first_key(self, prefix: str, after: str) -> str | None:
        return _first_key_after(self._directory / prefix, prefix, after)

    def _key(self, path: str) -> str:
        return path[len(str(self._directory)) + 1 :]

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

    def _prepare(self, directory: Path, prefix: str, last: str) -> None:
        """Make a directory read-only, and write it to the disk."""
        files, mode = [], self._file_mode(prefix, _READ_ONLY_MODE)
        # Texts: a Path of each file takes longer than the calls.
        for folder, _, names in os.walk(directory):
            os.chmod(folder, self._mode)  # noqa: PTH101
            for name in names:
                path = f"{folder}/{name}"
                found = os.stat(path)  # noqa: PTH116
                os.chmod(path, found.st_mode & 0o111 | mode)  # noqa: PTH101
                self._on_bytes(0 if name == last else found.st_size)
                files.append(path)
            files.append(folder)
        if self.syncs_to_disk:
            run_in_parallel(_sync, files)

    def _file_mode(self, key: str, mode: int) -> int:
        """Return the permissions of a file: for the group, and for others unless it is private, at most the root's."""
        return mode & (stat.S_IRWXU | self._mode & (stat.S_IRWXG if key.startswith(_PRIVATE) else 0o077))

    def _rename(self, path: Path, key: str) -> None:
        self._move(path.rename, key)
        if self.syncs_to_disk and key.startswith(_SYNCED_AT_LAST):
            _sync((self._directory / key).parent)

    def _move(self, move: Callable[[Path], object], key: str) -> None:
        """Call `move` with the path of a key in an existing folder; other processes may delete empty folders."""
        target = self._directory / key
        for attempt in range(_MAX_RENAMES):
            self._make_folder(target.parent)
            try:
                move(target)
            except FileNotFoundError:
                if attempt == _MAX_RENAMES - 1:
                    raise
            else:
                return

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, with the root's permissions."""
        if folder.is_dir() or folder == self._directory:
            return
        self._make_folder(folder.parent)
        # Another process may make it too, or delete the folder above it; `_move` tries again then.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir()
            folder.chmod(self._mode)

    @contextlib.contextmanager
    def _staged_file(self, key: str, data: bytes) -> Iterator[Path]:
        staged = self.scratch.path / uuid.uuid4().hex
        try:
            with staged.open("wb") as file:
                os.fchmod(file.fileno(), self._file_mode(key, _WRITABLE_MODE))
                file.write(data)
                if self.syncs_to_disk and not key.startswith(_NOT_SYNCED):
                    file.flush()
                    os.fsync(file.fileno())
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


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some filesystems have nothing to do for a directory, and say so.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def own_copy(path: Path, target: Path) -> None:
    """Make a file through which the original cannot be changed: a hard link to a read-only file, or a copy for root.

    Permissions do not keep root from writing. Filesystems with shared blocks make the copy without copying bytes.
    """
    if os.geteuid() != 0:
        link_or_copy(path, target)
        return
    try:
        with path.open("rb") as source, target.open("xb") as copy:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(path, target)


def link_or_copy(path: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the filesystem has no links."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(path, target)


def _walk_files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Walk a folder in the lexicographic order of its keys, with one folder's names in memory at a time.

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
