"""What a step run holds on its host until the store has it, so that nothing goes with a process that is killed."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

from msgspec.structs import replace

from airflow_zen.errors import ArtifactNotFound, ZenError
from airflow_zen.lineage.mlflow.encoding import to_milliseconds
from airflow_zen.lineage.mlflow.offline.call_log import UserCall, UserCalls
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.offline.replay import UserReplay
    from airflow_zen.runs.records import StepRunRecords

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


log = logging.getLogger("airflow_zen.lineage")

_UPDATE_RUN = "UpdateRun"


def recover_orphans(
    root: str, scratch: Path | None, records: StepRunRecords, replay: UserReplay
) -> tuple[StepRunId, ...]:
    """Store the records and calls of step runs whose processes are gone, as owed; give the runs.

    Only what belongs in this root. What cannot be stored now stays; doing one twice is no harm.
    """
    recovered = []
    for journal in orphaned_journals(scratch):
        try:
            run = _recover(journal, root, records, replay)
        except (ZenError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("What a step left in %s when it was killed cannot be stored yet: %s", journal.folder, error)
        else:
            recovered += [run] if run else []
    return tuple(recovered)


def _recover(journal: RunJournal, root: str, records: StepRunRecords, replay: UserReplay) -> StepRunId | None:
    read = journal.read()
    if read is None:
        journal.delete()
        return None
    run, journal_root = read
    if journal_root != root:
        return None
    if run.state is StepState.RUNNING:
        run = _find_record(run.id, records) or _as_killed(run, journal)
    replay.keep(run.id, journal.calls)
    records.put(run, delivered=False)
    journal.delete()
    log.warning("The process of %s was gone; what it had not stored is stored now, and sent to MLflow later.", run.id)
    return run.id


def _find_record(run: StepRunId, records: StepRunRecords) -> StepRun | None:
    try:
        return records.get(run)
    except ArtifactNotFound:
        return None


def _as_killed(run: StepRun, journal: RunJournal) -> StepRun:
    """End a run that could not end itself, and the runs that its code had begun."""
    ended = journal.last_modified()
    _end_user_runs(journal.calls, ended)
    return replace(run, state=StepState.KILLED, ended=ended, error="The process was killed.")


def _end_user_runs(calls: UserCalls, ended: float) -> None:
    begun = {call.made for call in calls.all() if call.api == "CreateRun"}
    over = {call.body.get("run_id") for call in calls.all() if call.api == _UPDATE_RUN and "status" in call.body}
    for run_id in sorted(begun - over):
        end = {"run_id": run_id, "status": str(StepState.KILLED), "end_time": to_milliseconds(ended)}
        calls.add(UserCall(_UPDATE_RUN, "POST", "runs/update", end))
