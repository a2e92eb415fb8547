"""What a step run has not stored yet, in a directory on its host that outlives the process."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from weakref import finalize

from msgspec.structs import replace

from airflow_zen.errors import UNREADABLE, ArtifactNotFound, ZenError
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports.base import Transport, normalize_root

log = logging.getLogger("airflow_zen.runs")

_PREFIX, _INCOMPLETE_PREFIX, _UNREADABLE_PREFIX = "zen-step-", ".zen-step-", "unreadable-"
_RUN, _PLANNED, _ENDED, _LOCK = "run.json", "planned.json", "ended.json", "lock"


class RunJournal:
    """A step run's latest record and other files of its directory, locked while the process lives.

    The lock is the operating system's and ends with the process, however that ends; a process id would be
    given to another process later. A journal whose lock is free is an orphan.
    """

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        # Called, it lets another process have the journal.
        self.unlock = finalize(self, os.close, lock)

    @classmethod
    def create(cls, run: StepRun, root: str, scratch: Path | None) -> RunJournal:
        """Create the directory, complete and locked before another process can find it."""
        directory = Path(tempfile.mkdtemp(prefix=_INCOMPLETE_PREFIX, dir=scratch))
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Where locks are not to be had, nobody else gets this one either, and the directory stays.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal = cls(directory, lock)
        journal.write(run, root)
        journal.directory = directory.rename(directory.with_name(directory.name.removeprefix(".")))
        return journal

    @property
    def modified(self) -> float:
        """When the process last wrote into it, in seconds since the epoch."""
        return max(path.stat().st_mtime for path in self.directory.rglob("*") if path.is_file())

    def write(self, run: StepRun, root: str) -> None:
        """Keep the record as it is now; the artifact root says in whose store it belongs."""
        # Never over a file that is there: ext4 then begins to write the new one to the disk, and who deletes it at the
        # end of the step waits 10 ms for that.
        path = self.directory / (_RUN if run.state is StepState.RUNNING else _ENDED)
        if path.name == _RUN and path.exists():
            path = self.directory / _PLANNED
        written = path.with_suffix(".new")
        written.write_text(json.dumps({"root": root, "run": run.to_json()}, default=str))
        written.rename(path)

    def read(self) -> tuple[StepRun, str] | None:
        """Return the latest record that can be read and its artifact root; None where there is none.

        Another process may have recovered it meanwhile. Raises `ValueError` where no record can be read.
        """
        damage: Exception | None = None
        for name in (_ENDED, _PLANNED, _RUN):
            try:
                document = json.loads((self.directory / name).read_bytes())
                return StepRun.from_json(document["run"]), str(document["root"])
            except FileNotFoundError:
                continue
            except UNREADABLE as error:
                damage = error
        if damage:
            raise ValueError(f"{self.directory}: {damage}") from damage
        return None

    def set_aside(self) -> Path:
        """Rename a journal that cannot be read, so that it is not tried again; return its new path."""
        return self.directory.rename(self.directory.with_name(_UNREADABLE_PREFIX + self.directory.name))

    def delete(self) -> None:
        """Delete what is stored; the record first, without which nobody recovers the rest."""
        for name in (_RUN, _PLANNED, _ENDED):
            (self.directory / name).unlink(missing_ok=True)
        try:
            (self.directory / _LOCK).unlink(missing_ok=True)
            self.directory.rmdir()
        except OSError:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.unlock()


def orphaned_journals(scratch: Path | None) -> Iterator[RunJournal]:
    """Lock, one by one, the journals on this host whose processes are gone; other users' are left alone.

    `scratch` is where the processes kept them, None for the directory for temporary files.
    """
    for directory in sorted(Path(scratch or tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        if journal := _lock(directory):
            yield journal
            journal.unlock()


def _lock(directory: Path) -> RunJournal | None:
    with suppress(OSError):
        # Anyone may put directories where temporary files are.
        if directory.lstat().st_uid == os.geteuid():
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            journal = RunJournal(directory, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return journal
    return None


class RunJournals:
    """The journals of one artifact root on this host: those of this process, and those that killed processes left.

    keep: stores the other files of an orphan's directory, for a recorder that puts some there. delivered:
    whether a recovered record is one that no lineage server waits for.
    """

    def __init__(
        self,
        transport: Transport,
        keep: Callable[[StepRun, Path], object] = lambda _run, _directory: None,
        *,
        delivered: bool = True,
    ) -> None:
        self._transport = transport
        self._root = normalize_root(transport.root)
        self._keep = keep
        self._delivered = delivered
        self._open: dict[StepRunId, RunJournal] = {}

    def open(self, run: StepRun) -> RunJournal:
        """Begin the journal of a run."""
        self._open[run.id] = journal = RunJournal.create(run, self._root, self._transport.scratch_directory)
        return journal

    def get(self, run: StepRun) -> RunJournal | None:
        """Return the journal of a run that has begun in this process."""
        return self._open.get(run.id)

    def write(self, run: StepRun) -> None:
        """Keep the latest record of a run."""
        if journal := self.get(run):
            journal.write(run, self._root)

    def delete(self, run: StepRun) -> None:
        """Delete the journal of a run whose record is in the store."""
        if journal := self._open.pop(run.id, None):
            journal.delete()

    def abandon(self, run: StepRun) -> None:
        """Leave the journal of a run to the next process that recovers orphans."""
        if journal := self._open.pop(run.id, None):
            journal.unlock()

    def recover_orphans(self) -> tuple[StepRunId, ...]:
        """Store the journals that ended processes left on this host; return their runs.

        Only those of this root. One that cannot be stored now stays; storing one twice is harmless.
        """
        recovered = []
        for journal in orphaned_journals(self._transport.scratch_directory):
            try:
                run = self._recover(journal)
            except (ZenError, OSError) as error:
                log.warning("What a killed step left in %s cannot be stored yet: %s", journal.directory, error)
            except ValueError as error:
                log.warning("What a killed step left cannot be read, and is now in %s: %s", journal.set_aside(), error)
            else:
                recovered += [run] if run else []
        return tuple(recovered)

    def _recover(self, journal: RunJournal) -> StepRunId | None:
        read = journal.read()
        if read is None:
            journal.delete()
            return None
        run, journal_root = read
        if journal_root != self._root:
            return None
        records = StepRunRecords(self._transport)
        if run.state is StepState.RUNNING:
            try:
                run = records.get(run.id)
            except ArtifactNotFound:
                run = replace(run, state=StepState.KILLED, ended=journal.modified, error="The process was killed.")
        self._keep(run, journal.directory)
        records.put(run, self._delivered)
        journal.delete()
        log.warning("The process of %s was killed; what it had not stored is stored now.", run.id)
        return run.id
