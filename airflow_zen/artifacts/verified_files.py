"""Large local files that this host has just verified: tasks that read parts of one do not each read all of it."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from airflow_zen.artifacts.ref import ArtifactFile, verify_in_place

MIN_SIZE = 64 * 1024 * 1024
"""The bytes of a file that is verified once; a smaller one is verified for each reader."""

_SECONDS = 3600.0
# The clock of change times is coarse: a write in the same tick as the hash would not be seen.
_SETTLED_SECONDS = 2.0


def verify_once(path: Path, file: ArtifactFile) -> None:
    """Verify a file as `verify_in_place` does, unless this user verified it on this host in the last hour.

    A file that was written, renamed or replaced since is verified again: its change time, which only the kernel sets, is
    part of the record.
    """
    record = _record(path, file) if file.size >= MIN_SIZE else None
    if record is not None and _is_recent(record):
        return
    verify_in_place(path, file)
    if record is not None:
        # A directory that cannot be written costs another verification.
        with suppress(OSError):
            record.touch(mode=0o600)


def _record(path: Path, file: ArtifactFile) -> Path | None:
    """Return the path of the record of a file as it is now; None for one that has just changed, or cannot have one."""
    with suppress(OSError):
        found, folder = path.stat(), _folder()
        if folder and time.time() - found.st_ctime > _SETTLED_SECONDS:
            identity = (str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            return folder / hashlib.sha256(repr((*identity, file.size, file.hash)).encode()).hexdigest()
    return None


def _folder() -> Path | None:
    """Return the folder of this user's records; None where another user could write into it."""
    folder = Path(tempfile.gettempdir()) / f"airflow-zen-verified-{os.geteuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return folder if is_own else None


def _is_recent(record: Path) -> bool:
    """Whether a record was made in the last hour, since the host started; an older one is deleted."""
    booted = time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    with suppress(OSError):
        age = time.time() - record.stat().st_mtime
        if 0 <= age < min(_SECONDS, time.time() - booted):
            return True
        record.unlink()
    return False
