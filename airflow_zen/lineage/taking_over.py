"""Put into the store what processes that were killed have left on this host."""

from __future__ import annotations

import logging
from pathlib import Path

from msgspec.structs import replace

from airflow_zen.errors import ArtifactNotFound, ZenError
from airflow_zen.lineage.left_behind import HeldRun, left_behind
from airflow_zen.lineage.metrics import milliseconds
from airflow_zen.lineage.records import StepRunRecords
from airflow_zen.lineage.step_run import StepRun, StepRunId, StepState
from airflow_zen.lineage.user_calls import UserCall, UserCalls
from airflow_zen.lineage.user_replay import UserReplay

log = logging.getLogger("airflow_zen.lineage")

_ENDS_RUNS = "UpdateRun"


def take_over(root: str, scratch: Path | None, records: StepRunRecords, replay: UserReplay) -> tuple[StepRunId, ...]:
    """Store the records and calls of step runs whose processes are gone, as owed; give the runs.

    Only what belongs in this root. What cannot be stored now stays; doing one twice is no harm.
    """
    taken = []
    for held in left_behind(scratch):
        try:
            run = _take(held, root, records, replay)
        except (ZenError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("What a step left in %s when it was killed cannot be stored yet: %s", held.folder, error)
        else:
            taken += [run] if run else []
    return tuple(taken)


def _take(held: HeldRun, root: str, records: StepRunRecords, replay: UserReplay) -> StepRunId | None:
    read = held.read()
    if read is None:
        held.forget()
        return None
    run, belongs = read
    if belongs != root:
        return None
    if run.state is StepState.RUNNING:
        run = _recorded(run.id, records) or _killed(run, held)
    replay.keep(run.id, held.calls)
    records.put(run, delivered=False)
    held.forget()
    log.warning("The process of %s was gone; what it had not stored is stored now, and sent to MLflow later.", run.id)
    return run.id


def _recorded(run: StepRunId, records: StepRunRecords) -> StepRun | None:
    try:
        return records.get(run)
    except ArtifactNotFound:
        return None


def _killed(run: StepRun, held: HeldRun) -> StepRun:
    """End a run that could not end itself, and the runs that its code had begun."""
    ended = held.last_sign()
    _end_runs(held.calls, ended)
    return replace(run, state=StepState.KILLED, ended=ended, error="The process was killed.")


def _end_runs(calls: UserCalls, ended: float) -> None:
    begun = {call.made for call in calls.all() if call.api == "CreateRun"}
    over = {call.body.get("run_id") for call in calls.all() if call.api == _ENDS_RUNS and "status" in call.body}
    for run_id in sorted(begun - over):
        end = {"run_id": run_id, "status": str(StepState.KILLED), "end_time": milliseconds(ended)}
        calls.add(UserCall(_ENDS_RUNS, "POST", "runs/update", end))
