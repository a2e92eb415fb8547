"""The process that follows the end of DAG runs: `python -m airflow_zen.plugin.finalize`, DAG runs as JSON on stdin."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
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
from airflow_zen.plugin.worker import BACKFILL_PREFIX, CATCH_UP_FLAG, EXIT_CODE_PENDING
from airflow_zen.runs.step_run import FinishedDagRun, StepState

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_zen.stack import Stack
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.plugin")


def finalize_dag_runs(stack: Stack, runs: Sequence[FinishedDagRun], catch_up: bool = False) -> bool:
    """Keep the ends of DAG runs in mind, deliver what is owed, close and draw; tell whether all is done.

    The ends are kept first: whatever fails after that, the next process finds them. `catch_up` looks for ends
    that nobody heard.
    """
    recorder = stack.lineage
    if isinstance(recorder, MlflowRecorder):
        for run in runs:
            stack.records.put_finished_dag_run(run)
    ends_recorded = not catch_up or _record_missed_ends(stack)
    _print_backfill_totals(runs, stack)
    if not isinstance(recorder, MlflowRecorder):
        return True
    delivery = sync_pending(recorder, stack.records, stack.clock)
    if delivery is None or delivery.failed or not ends_recorded:
        return False
    return not any(True for left in (stack.records.undelivered(), stack.records.finished_dag_runs()) for _ in left)


def _record_missed_ends(stack: Stack) -> bool:
    """Keep in mind the ends that nobody heard; False where MLflow or Airflow's database cannot be asked."""
    if not isinstance(stack.lineage, MlflowRecorder):
        return True
    try:
        for run in missed_ends(stack, stack.lineage):
            stack.records.put_finished_dag_run(run)
    except (ZenError, SQLAlchemyError) as error:
        log.warning("DAG runs whose end nobody heard are looked for later: %s", error)
        return False
    return True


def finalize_in_all_stacks(runs: Sequence[FinishedDagRun], catch_up: bool = False) -> int:
    """Follow up in every stack that is defined, for nobody says in which a DAG run had steps; give the exit code.

    A stack that cannot be reached keeps none of the others from it; the runs are then taken by the next process.
    """
    code = 0
    for name in stack_names(load_stacks_file()):
        try:
            done = finalize_dag_runs(open_stack(Settings.read(name)), runs, catch_up)
        except Exception:
            log.exception("Stack %r could not be followed up.", name)
            code = 1
        else:
            code = code or (0 if done else EXIT_CODE_PENDING)
    return code


def _print_backfill_totals(runs: Sequence[FinishedDagRun], stack: Stack) -> None:
    try:
        for line in backfill_summaries(runs, stack.store.transport):
            sys.stdout.write(f"{line}\n")
    except Exception as error:  # noqa: BLE001 - a remark is never worth the lineage of a DAG run
        sys.stdout.write(f"{BACKFILL_PREFIX}totals could not be read: {error!r}".replace("\n", " ") + "\n")


def main() -> int:
    """Do it at low priority, so that the scheduler beside it keeps its pace."""
    os.nice(10)
    runs = msgspec.json.decode(sys.stdin.read(), type=list[FinishedDagRun])
    return finalize_in_all_stacks(runs, catch_up=CATCH_UP_FLAG in sys.argv)


def backfill_run_states(backfill_id: int) -> dict[tuple[str, str], str]:
    """Give the states of a backfill's DAG runs, by DAG and run id."""
    with create_session() as session:
        rows = session.execute(
            select(DagRun.dag_id, DagRun.run_id, DagRun.state).where(DagRun.backfill_id == backfill_id)
        )
        return {(dag_id, run_id): str(state) for dag_id, run_id, state in rows}


def backfill_summaries(ended: Iterable[FinishedDagRun], transport: Transport) -> Iterator[str]:
    """Say of each backfill that ended with one of these DAG runs how many of its partitions were reused."""
    names = {(run.dag_id, run.run_id) for run in ended}
    for backfill_id in sorted(_backfill_ids(names)):
        states = backfill_run_states(backfill_id)
        # Airflow tells us of an end before it has written it down.
        if any(state not in State.finished_dr_states for run, state in states.items() if run not in names):
            continue
        dag_id = next(iter(states))[0]
        totals = list(RunTotalsReader(transport).read(dag_id, {run_id for _, run_id in states}))
        if totals:
            yield f"backfill {backfill_id} of {dag_id}: {savings_summary(totals, 'partitions')}"


def _backfill_ids(names: Iterable[tuple[str, str]]) -> set[int]:
    found = set()
    with create_session() as session:
        for dag_id, run_id in names:
            query = select(DagRun.backfill_id).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
            found.add(session.scalar(query))
    return {backfill_id for backfill_id in found if backfill_id is not None}


def missed_ends(stack: Stack, recorder: MlflowRecorder) -> Iterator[FinishedDagRun]:
    """Give the ends of DAG runs that MLflow shows as running; those that were deleted in Airflow end as KILLED, now.

    Runs that left nothing in this stack's store, or of which this Airflow's database has neither the DAG's version nor a
    word in its audit log, are another deployment's. Raises `LineageError` when MLflow is away or refuses.
    """
    for run in [*running_dag_runs(recorder.rest)]:
        if stack.records.has_dag_run(run.dag_id, run.run_id):
            yield from _missed_end(run, stack)


def _missed_end(open_run: RunningDagRun, stack: Stack) -> Iterator[FinishedDagRun]:
    with create_session() as session:
        if not _belongs_to_this_airflow(open_run, session):
            return
        run = session.query(DagRun).filter_by(dag_id=open_run.dag_id, run_id=open_run.run_id).one_or_none()
        if run is None:
            yield FinishedDagRun(open_run.dag_id, open_run.run_id, StepState.KILLED, stack.clock())
        elif run.end_date:
            state = StepState.FAILED if run.state == DagRunState.FAILED else StepState.FINISHED
            yield FinishedDagRun(open_run.dag_id, open_run.run_id, state, run.end_date.timestamp())


def _belongs_to_this_airflow(open_run: RunningDagRun, session: Session) -> bool:
    """Tell whether a DAG run is of this Airflow.

    Versions of DAGs stay when their runs are deleted; the audit log stays when DAGs are.
    """
    if not open_run.dag_version or session.get(DagVersion, UUID(open_run.dag_version)):
        return True
    return session.query(Log).filter_by(dag_id=open_run.dag_id, run_id=open_run.run_id).first() is not None


def active_dag_runs() -> set[tuple[str, str]]:
    """Give DAG and run ids of every DAG run that is queued or running."""
    with create_session() as session:
        rows = session.execute(
            select(DagRun.dag_id, DagRun.run_id).where(DagRun.state.not_in(State.finished_dr_states))
        )
        return {(dag_id, run_id) for dag_id, run_id in rows}


if __name__ == "__main__":
    sys.exit(main())
