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

from airflow_zen.lineage.ended import FinishedDagRun
from airflow_zen.lineage.known import RunningDagRun, running_dag_runs
from airflow_zen.lineage.mlflow import MlflowRecorder
from airflow_zen.lineage.step_run import StepState
from airflow_zen.stack import Stack


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
