"""Put into the store what processes that were killed have left on this host."""

from __future__ import annotations

import logging
from pathlib import Path

from msgspec.structs import replace

from airflow_zen.errors import ArtifactNotFound, ZenError
from airflow_zen.lineage.left_behind import RunJournal, orphaned_journals
from airflow_zen.lineage.metrics import to_milliseconds
from airflow_zen.lineage.records import StepRunRecords
from airflow_zen.lineage.step_run import StepRun, StepRunId, StepState
from airflow_zen.lineage.user_calls import UserCall, UserCalls
from airflow_zen.lineage.user_replay import UserReplay

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
