"""Queries of Airflow's database for DAG runs: ended ones, active ones, and those of a backfill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from airflow.models import DagRun
from airflow.models.dag_version import DagVersion
from airflow.models.log import Log
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, State
from sqlalchemy import select

from airflow_zen.lineage.savings import RunTotalsReader, savings_summary
from airflow_zen.plugin.worker import BACKFILL_PREFIX
from airflow_zen.runs.step_run import FinishedDagRun, StepState

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.dag_runs import RunningDagRun
    from airflow_zen.transports.base import Transport


def missed_end(open_run: RunningDagRun, now: float) -> FinishedDagRun | None:
    """Return the end of a DAG run that MLflow shows as running; None if it runs or is another deployment's."""
    dag_id, run_id = open_run.dag_id, open_run.run_id
    with create_session() as session:
        # DAG versions outlive the runs of the DAG, and the audit log outlives the DAG.
        is_ours = not open_run.dag_version or session.get(DagVersion, UUID(open_run.dag_version))
        if not is_ours and session.query(Log).filter_by(dag_id=dag_id, run_id=run_id).first() is None:
            return None
        run = session.query(DagRun).filter_by(dag_id=dag_id, run_id=run_id).one_or_none()
        if run is None:
            return FinishedDagRun(dag_id, run_id, StepState.KILLED, now)
        state = StepState.FAILED if run.state == DagRunState.FAILED else StepState.FINISHED
        return FinishedDagRun(dag_id, run_id, state, run.end_date.timestamp()) if run.end_date else None


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
