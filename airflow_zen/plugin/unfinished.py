"""DAG runs that Airflow's database does not call finished."""

from __future__ import annotations

from airflow.models import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import select


def active_dag_runs() -> set[tuple[str, str]]:
    """Give DAG and run ids of every DAG run that is queued or running."""
    with create_session() as session:
        rows = session.execute(
            select(DagRun.dag_id, DagRun.run_id).where(DagRun.state.not_in(State.finished_dr_states))
        )
        return {(dag_id, run_id) for dag_id, run_id in rows}
