"""DAG runs whose end nobody heard: MLflow shows them as running, Airflow's database does not."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy.orm import Session

from airflow_zen.lineage.ended import EndedDagRun
from airflow_zen.lineage.known import OpenDagRun, open_dag_runs
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.step_run import StepState
from airflow_zen.stack import Stack


def unheard_ends(stack: Stack, recorder: MlflowRecorder) -> Iterator[EndedDagRun]:
    """Give the ends of DAG runs that MLflow shows as running; those that were deleted in Airflow end as KILLED, now.

    Runs that left nothing in this stack's store, or of which this Airflow's database has neither the DAG's version nor a
    word in its audit log, are another deployment's. Raises `LineageError` when MLflow is away or refuses.
    """
    for run in [*open_dag_runs(recorder.rest)]:
        if stack.records.knows(run.dag_id, run.run_id):
            yield from _end(run, stack)


def _end(opened: OpenDagRun, stack: Stack) -> Iterator[EndedDagRun]:
    with create_session() as session:
        if not _is_ours(opened, session):
            return
        run = session.query(DagRun).filter_by(dag_id=opened.dag_id, run_id=opened.run_id).one_or_none()
        if run is None:
            yield EndedDagRun(opened.dag_id, opened.run_id, StepState.KILLED, stack.clock())
        elif run.end_date:
            state = StepState.FAILED if run.state == DagRunState.FAILED else StepState.FINISHED
            yield EndedDagRun(opened.dag_id, opened.run_id, state, run.end_date.timestamp())


def _is_ours(opened: OpenDagRun, session: Session) -> bool:
    """Tell whether a DAG run is of this Airflow.

    Versions of DAGs stay when their runs are deleted; the audit log stays when DAGs are.
    """
    if not opened.dag_version or session.get(DagVersion, UUID(opened.dag_version)):
        return True
    return session.query(Log).filter_by(dag_id=opened.dag_id, run_id=opened.run_id).first() is not None
