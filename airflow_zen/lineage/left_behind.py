"""What a step run holds on its host until the store has it, so that nothing goes with a process that is killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import finalize

from airflow_zen.lineage.step_run import StepRun
from airflow_zen.lineage.user_calls import UserCalls

_PREFIX, _INCOMPLETE_PREFIX = "zen-step-", ".zen-step-"
_RUN, _ENDED, _LOCK, _CALLS = "run.json", "ended.json", "lock", "calls"


class RunJournal:
    """A step run's record as far as it is known, and what its code logged: a folder with a lock.

    The lock is the operating system's and ends with the process, however that ends; a process id would be
    given to another one some day. A folder whose lock is free was left behind.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._unlock = finalize(self, os.close, lock)

    @classmethod
    def create(cls, run: StepRun, root: str, scratch: Path | None) -> RunJournal:
        """Make the folder, whole and locked before anyone can find it."""
        made = Path(tempfile.mkdtemp(prefix=_INCOMPLETE_PREFIX, dir=scratch))
        lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Where locks are not to be had, nobody else gets this one either, and the folder stays.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (made / _CALLS).mkdir()
        journal = cls(made, lock)
        journal._write(_RUN, run, root)
        journal.folder = made.rename(made.with_name(made.name.removeprefix(".")))
        return journal

    @property
    def calls(self) -> UserCalls:
        """The calls that MLflow has not got."""
        return UserCalls(self.folder / _CALLS)

    def write_end(self, run: StepRun, root: str) -> None:
        """Keep the record as it is at the end; the artifact root says in whose store it belongs."""
        self._write(_ENDED, run, root)

    def read(self) -> tuple[StepRun, str] | None:
        """Give the latest record and its artifact root; None where another process has taken it over meanwhile."""
        for name in (_ENDED, _RUN):
            with suppress(FileNotFoundError):
                journal: dict[str, Any] = json.loads((self.folder / name).read_bytes())
                return StepRun.from_json(journal["run"]), str(journal["root"])
        return None

    def last_modified(self) -> float:
        """Give the time of the last thing that the process wrote, in seconds since the epoch."""
        return max(path.stat().st_mtime for path in [self.folder / _RUN, *self.folder.glob(f"{_CALLS}/*")])

    def delete(self) -> None:
        """Take the folder away, of which nothing is owed; the record goes first, and then it is nobody's."""
        for name in (_RUN, _ENDED):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.unlock()

    def _write(self, name: str, run: StepRun, root: str) -> None:
        # Never over a file that is there: ext4 then begins to write the new one to the disk, and who takes it away at the
        # end of the step waits 10 ms for that.
        written = self.folder / f"{name}.new"
        written.write_text(json.dumps({"root": root, "run": run.to_json()}, default=str))
        written.rename(self.folder / name)

    def unlock(self) -> None:
        """Let another process have it."""
        self._unlock()


def orphaned_journals(scratch: Path | None) -> Iterator[RunJournal]:
    """Take over, one by one, the runs on this host whose processes are gone; each is let go before the next.

    `scratch` is where the processes kept them, None for the folder for temporary files. Others' are left alone.
    """
    for folder in sorted(Path(scratch or tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        with _open_orphan(folder) as journal:
            if journal:
                yield journal


@contextmanager
def _open_orphan(folder: Path) -> Iterator[RunJournal | None]:
    lock = _lock_folder(folder)
    if lock is None:
        yield None
        return
    journal = RunJournal(folder, lock)
    try:
        yield journal
    finally:
        journal.unlock()


def _lock_folder(folder: Path) -> int | None:
    """Lock a folder that is ours and nobody's; give the lock."""
    lock = None
    try:
        # Anyone may put folders where temporary files lie.
        if folder.lstat().st_uid != os.geteuid():
            return None
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if lock is not None:
            os.close(lock)
        return None
    return lock
