"""The child process that finalizes ended DAG runs: `python -m airflow_zen.plugin.finalize`, DAG runs as JSON on stdin."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from airflow.models import DagRun
from airflow.models.dag_version import DagVersion
from airflow.models.log import Log
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, State
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from airflow_zen.config.options import load_stacks_file, stack_names
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow.dag_runs import RunningDagRun, running_dag_runs
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.sync import sync_pending
from airflow_zen.lineage.savings import RunTotalsReader, savings_summary
from airflow_zen.plugin.worker import BACKFILL_PREFIX, CATCH_UP_FLAG, EXIT_CODE_PENDING, PROCESS_TIMEOUT
from airflow_zen.runs.step_run import FinishedDagRun, StepState

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_zen.stack import Stack
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.plugin")


def main() -> int:
    """Finalize the DAG runs of stdin, and return the exit code."""
    # Half of a busy process's share of a core: less than the scheduler's, and enough beside training on every core.
    os.nice(3)
    # The worker's own timeout ends with its process, which this one outlives.
    signal.alarm(round(PROCESS_TIMEOUT))
    runs = msgspec.json.decode(sys.stdin.read(), type=list[FinishedDagRun])
    return finalize_in_all_stacks(runs, catch_up=CATCH_UP_FLAG in sys.argv)


def finalize_in_all_stacks(runs: Sequence[FinishedDagRun], catch_up: bool = False) -> int:
    """Finalize in every defined stack, because a DAG run may have steps in any; return the exit code.

    A stack that fails does not stop the others; the worker then passes the runs to the next process.
    """
    code = 0
    for name in stack_names(load_stacks_file()):
        try:
            done = finalize_dag_runs(open_stack(Settings.read(name)), runs, catch_up)
        except Exception:
            log.exception("The DAG runs in stack %r could not be finalized.", name)
            code = 1
        else:
            code = code or (0 if done else EXIT_CODE_PENDING)
    return code


def finalize_dag_runs(stack: Stack, runs: Sequence[FinishedDagRun], catch_up: bool = False) -> bool:
    """Record the ends of DAG runs, deliver pending lineage, and close and draw the runs; return whether all is done.

    The ends are recorded first, so that the next process finds them after any failure. `catch_up` searches for missed
    ends.
    """
    recorder = stack.lineage
    if not isinstance(recorder, MlflowRecorder):
        _print_backfill_totals(runs, stack.store.transport)
        return True
    for run in runs:
        stack.records.put_finished_dag_run(run)
    ends_recorded = not catch_up or _record_missed_ends(stack, recorder)
    _print_backfill_totals(runs, stack.store.transport)
    delivery = sync_pending(recorder, stack.records, stack.clock)
    if delivery is None or delivery.failed or not ends_recorded:
        return False
    return not any(True for left in (stack.records.undelivered(), stack.records.finished_dag_runs()) for _ in left)


def _record_missed_ends(stack: Stack, recorder: MlflowRecorder) -> bool:
    """Record missed ends; False when MLflow or Airflow's database cannot be read."""
    try:
        for run in missed_ends(stack, recorder):
            stack.records.put_finished_dag_run(run)
    except (ZenError, SQLAlchemyError) as error:
        log.warning("Missed ends of DAG runs are searched again later: %s", error)
        return False
    return True


def missed_ends(stack: Stack, recorder: MlflowRecorder) -> Iterator[FinishedDagRun]:
    """Yield the ends of DAG runs that MLflow shows as running; a run deleted in Airflow ends as KILLED, now.

    Runs of another deployment are left out: they have no records in this stack, or neither a DAG version nor an entry
    in the audit log of this Airflow. Raises `LineageError` when MLflow is away or refuses.
    """
    for open_run in [*running_dag_runs(recorder.rest)]:
        if stack.records.has_dag_run(open_run.dag_id, open_run.run_id):
            with create_session() as session:
                if end := _missed_end(open_run, session, stack.clock()):
                    yield end


def _missed_end(open_run: RunningDagRun, session: Session, now: float) -> FinishedDagRun | None:
    dag_id, run_id = open_run.dag_id, open_run.run_id
    # DAG versions outlive the runs of the DAG, and the audit log outlives the DAG.
    is_ours = not open_run.dag_version or session.get(DagVersion, UUID(open_run.dag_version))
    if not is_ours and session.query(Log).filter_by(dag_id=dag_id, run_id=run_id).first() is None:
        return None
    run = session.query(DagRun).filter_by(dag_id=dag_id, run_id=run_id).one_or_none()
    if run is None:
        return FinishedDagRun(dag_id, run_id, StepState.KILLED, now)
    state = StepState.FAILED if run.state == DagRunState.FAILED else StepState.FINISHED
    return FinishedDagRun(dag_id, run_id, state, run.end_date.timestamp()) if run.end_date else None


def _print_backfill_totals(runs: Sequence[FinishedDagRun], transport: Transport) -> None:
    try:
        lines = list(backfill_summaries(runs, transport))
    except Exception as error:  # noqa: BLE001 - totals are not worth the lineage of a DAG run
        lines = [f"{BACKFILL_PREFIX}totals could not be read: {error!r}".replace("\n", " ")]
    sys.stdout.writelines(f"{line}\n" for line in lines)


def backfill_summaries(ended: Sequence[FinishedDagRun], transport: Transport) -> Iterator[str]:
    """Yield for each backfill that ended with one of these DAG runs how many of its partitions were reused."""
    names = {(run.dag_id, run.run_id) for run in ended}
    with create_session() as session:
        queries = (select(DagRun.backfill_id).filter_by(dag_id=dag, run_id=run) for dag, run in names)
        backfill_ids = {found for query in queries if (found := session.scalar(query)) is not None}
    for backfill_id in sorted(backfill_ids):
        states = backfill_run_states(backfill_id)
        # Airflow calls the listener before it writes the end of a DAG run.
        if any(state not in State.finished_dr_states for run, state in states.items() if run not in names):
            continue
        dag_id = next(iter(states))[0]
        totals = list(RunTotalsReader(transport).read(dag_id, {run_id for _, run_id in states}))
        if totals:
            yield f"{BACKFILL_PREFIX}{backfill_id} of {dag_id}: {savings_summary(totals, 'partitions')}"


def backfill_run_states(backfill_id: int) -> dict[tuple[str, str], str]:
    """Return the states of a backfill's DAG runs, by DAG and run id."""
    query = select(DagRun.dag_id, DagRun.run_id, DagRun.state).where(DagRun.backfill_id == backfill_id)
    with create_session() as session:
        return {(dag_id, run_id): str(state) for dag_id, run_id, state in session.execute(query)}


def active_dag_runs() -> set[tuple[str, str]]:
    """Return DAG and run ids of every DAG run that is queued or running."""
    query = select(DagRun.dag_id, DagRun.run_id).where(DagRun.state.not_in(State.finished_dr_states))
    with create_session() as session:
        return {(dag_id, run_id) for dag_id, run_id in session.execute(query)}


if __name__ == "__main__":
    sys.exit(main())
