"""The folder for temporary files of a process, which other processes of the host remove after it was killed."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import socket
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from weakref import finalize

_PREFIX, _INCOMPLETE_PREFIX = "zen-process-", ".zen-process-"
_ABANDONED_AFTER = 7 * 24 * 3600.0  # seconds

# The lasting folders of this process, by parent and process id.
_lasting_folders: dict[tuple[Path, int], Path] = {}


class ScratchFolder:
    """A folder under `parent` for this process, made at its first use, and locked while it is needed.

    The operating system releases the lock when the process ends. The process that makes a folder first removes those of
    the same host whose lock is free. `parent` None is the directory for temporary files. lasting: whether its contents
    may outlive this object, as values that map files do: then all share one folder until the process ends.
    """

    def __init__(self, parent: Path | None = None, *, lasting: bool = True) -> None:
        self._given_parent = parent
        self._lasting = lasting
        self._folders: dict[tuple[Path, int], Path] = _lasting_folders if lasting else {}

    @property
    def parent(self) -> Path:
        """The folder for those of all processes."""
        return self._given_parent or Path(tempfile.gettempdir())

    @property
    def path(self) -> Path:
        """This process's folder."""
        parent, pid = self.parent, os.getpid()
        known = self._folders.get((parent, pid))
        if known is None or not known.is_dir():
            self.remove_abandoned()
            known = self._folders[parent, pid] = self._make()
        return known

    def new_directory(self, prefix: str) -> Path:
        """Return a new empty directory in it."""
        directory = self.path / f"{prefix}{uuid.uuid4().hex}"
        directory.mkdir(mode=0o700)
        return directory

    def remove_abandoned(self) -> None:
        """Remove the folders of ended processes of this host and user, and folders older than a week."""
        with suppress(OSError), os.scandir(self.parent) as found:
            for entry in list(found):
                if entry.name.startswith(f"{_PREFIX}{socket.gethostname()}~"):
                    _remove_if_free(entry.path)
                elif entry.name.startswith((_PREFIX, _INCOMPLETE_PREFIX)) and _is_old(entry.path):
                    shutil.rmtree(entry.path, ignore_errors=True)

    def _make(self) -> Path:
        """Make the folder; it is complete and locked before other processes can find it."""
        path = Path(tempfile.mkdtemp(prefix=f"{_INCOMPLETE_PREFIX}{socket.gethostname()}~", dir=self.parent))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = path.rename(path.with_name(path.name.removeprefix(".")))
        if self._lasting:
            atexit.register(_release, path, lock, os.getpid())
        else:
            finalize(self, _release, path, lock, os.getpid())
        return path


def _remove_if_free(path: str) -> None:
    with suppress(OSError):
        if os.lstat(path).st_uid != os.geteuid():
            return
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _is_old(path: str) -> bool:
    with suppress(OSError):
        return time.time() - os.lstat(path).st_mtime > _ABANDONED_AFTER
    return False


def _release(path: Path, lock: int, pid: int) -> None:
    # A forked process ends without having made it.
    if pid == os.getpid():
        with suppress(OSError):
            path.rmdir()
        os.close(lock)
