"""What a step run has not stored yet, in a directory on its host that outlives the process."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from msgspec.structs import replace

from airflow_zen.errors import ArtifactNotFound, ZenError
from airflow_zen.lineage.mlflow.encoding import to_milliseconds
from airflow_zen.lineage.mlflow.offline.outbox import Outbox, Request
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.offline.outbox import Replay
    from airflow_zen.runs.records import StepRunRecords

log = logging.getLogger("airflow_zen.lineage")

_PREFIX, _INCOMPLETE_PREFIX = "zen-step-", ".zen-step-"
_RUN, _ENDED, _LOCK, _OUTBOX = "run.json", "ended.json", "lock", "outbox"


class RunJournal:
    """A step run's latest record and its outbox, locked while the process lives.

    The lock is the operating system's and ends with the process, however that ends; a process id would be
    given to another one some day. A journal whose lock is free is an orphan.
    """

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        # Called, it lets another process have the journal.
        self.unlock = finalize(self, os.close, lock)

    @classmethod
    def create(cls, run: StepRun, root: str, scratch: Path | None) -> RunJournal:
        """Create the directory, whole and locked before anyone can find it."""
        directory = Path(tempfile.mkdtemp(prefix=_INCOMPLETE_PREFIX, dir=scratch))
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Where locks are not to be had, nobody else gets this one either, and the directory stays.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (directory / _OUTBOX).mkdir()
        journal = cls(directory, lock)
        journal.write(run, root)
        journal.directory = directory.rename(directory.with_name(directory.name.removeprefix(".")))
        return journal

    @property
    def outbox(self) -> Outbox:
        """What MLflow has not received."""
        return Outbox(self.directory / _OUTBOX)

    def write(self, run: StepRun, root: str) -> None:
        """Keep the record as it is now; the artifact root says in whose store it belongs."""
        # Never over a file that is there: ext4 then begins to write the new one to the disk, and who deletes it at the
        # end of the step waits 10 ms for that.
        path = self.directory / (_RUN if run.state is StepState.RUNNING else _ENDED)
        written = path.with_suffix(".new")
        written.write_text(json.dumps({"root": root, "run": run.to_json()}, default=str))
        written.rename(path)

    def read(self) -> tuple[StepRun, str] | None:
        """Return the latest record and its artifact root; None where another process has recovered it meanwhile."""
        for name in (_ENDED, _RUN):
            with suppress(FileNotFoundError):
                document = json.loads((self.directory / name).read_bytes())
                return StepRun.from_json(document["run"]), str(document["root"])
        return None

    def delete(self) -> None:
        """Delete what is stored; the record first, without which nobody recovers the rest."""
        for name in (_RUN, _ENDED):
            (self.directory / name).unlink(missing_ok=True)
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


def recover_orphans(root: str, scratch: Path | None, records: StepRunRecords, replay: Replay) -> tuple[StepRunId, ...]:
    """Store the records and outboxes of step runs whose processes are gone, as undelivered; return the runs.

    Only what belongs in this root. What cannot be stored now stays; storing one twice is harmless.
    """
    recovered = []
    for journal in orphaned_journals(scratch):
        try:
            run = _recover(journal, root, records, replay)
        except (ZenError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("What a killed step left in %s cannot be stored yet: %s", journal.directory, error)
        else:
            recovered += [run] if run else []
    return tuple(recovered)


def _recover(journal: RunJournal, root: str, records: StepRunRecords, replay: Replay) -> StepRunId | None:
    read = journal.read()
    if read is None:
        journal.delete()
        return None
    run, journal_root = read
    if journal_root != root:
        return None
    if run.state is StepState.RUNNING:
        try:
            run = records.get(run.id)
        except ArtifactNotFound:
            run = _as_killed(run, journal)
    replay.keep(run.id, journal.outbox)
    records.put(run, delivered=False)
    journal.delete()
    log.warning("The process of %s was killed; what it had not stored is stored now, and sent to MLflow later.", run.id)
    return run.id


def _as_killed(run: StepRun, journal: RunJournal) -> StepRun:
    """End a run that could not end itself, and the runs that its code had begun."""
    written = (journal.directory / _RUN, *journal.directory.glob(f"{_OUTBOX}/*"))
    killed, logged = max(path.stat().st_mtime for path in written), journal.outbox.logged()
    ended = {each.body.get("run_id") for each in logged if each.path == "runs/update" and "status" in each.body}
    for request in logged:
        if request.path == "runs/create" and request.created not in ended:
            end = {"run_id": request.created, "status": str(StepState.KILLED), "end_time": to_milliseconds(killed)}
            journal.outbox.append(Request("POST", "runs/update", end))
    return replace(run, state=StepState.KILLED, ended=killed, error="The process was killed.")
