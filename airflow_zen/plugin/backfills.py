"""Backfills, as Airflow's database knows them: what one has reused is told when its last DAG run ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow.models import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import select

from airflow_zen.artifacts.transport import Transport
from airflow_zen.lineage.ended import FinishedDagRun
from airflow_zen.lineage.totals import RunTotalsReader, savings_summary


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
