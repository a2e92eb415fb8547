"""DAG runs in Airflow's database: their state, that of their task instances, and the order of tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from airflow.models import DagModel, DagRun, TaskInstance
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import select

# As Airflow names the operators of steps.
_STEP, _BATCH, _GROUP = "@ml_step", "BatchOperator", "FusedOperator"


class InstanceState(msgspec.Struct, frozen=True):
    """A task instance as Airflow has it: `state` in capitals, `PENDING` before it has one; times in seconds.

    is_batch: whether it runs several elements of a mapped step, so that its `map_index` is the number of the batch.
    is_group: whether it runs the steps of a fused group, whose task ids begin with its own.
    """

    task_id: str
    map_index: int
    try_number: int
    state: str
    started: float | None
    ended: float | None
    is_step: bool
    is_batch: bool = False
    is_group: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether it is in a final state."""
        return self.state.lower() in _FINAL_STATES


class DagRunState(msgspec.Struct, frozen=True):
    """A DAG run as Airflow has it; without a `state` where it does not have it any more."""

    state: str = ""
    started: float | None = None
    ended: float | None = None
    instances: Sequence[InstanceState] = ()

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return bool(self.state) and self.state not in _FINAL_RUN_STATES


_FINAL_STATES = frozenset(str(state) for state in State.finished)
_FINAL_RUN_STATES = frozenset(str(state) for state in State.finished_dr_states)


def read_dag_run(dag_id: str, run_id: str, task_ids: Collection[str] = ()) -> DagRunState:
    """Read the state of a DAG run and of its task instances, or of those of some tasks; two queries."""
    run = select(DagRun.state, DagRun.start_date, DagRun.end_date).filter_by(dag_id=dag_id, run_id=run_id)
    columns = (
        "task_id",
        "map_index",
        "try_number",
        "state",
        "start_date",
        "end_date",
        "custom_operator_name",
        "operator",
    )
    instances = select(*(getattr(TaskInstance, name) for name in columns)).filter_by(dag_id=dag_id, run_id=run_id)
    if task_ids:
        instances = instances.where(TaskInstance.task_id.in_(task_ids))
    with create_session() as session:
        found = session.execute(run).one_or_none()
        if found is None:
            return DagRunState()
        rows = session.execute(instances).all()
    return DagRunState(
        str(found.state or "queued"), _seconds(found.start_date), _seconds(found.end_date), [*map(_instance, rows)]
    )


def has_dag(dag_id: str) -> bool:
    """Whether Airflow has a DAG, whether or not it has run."""
    with create_session() as session:
        return session.get(DagModel, dag_id) is not None


def read_tasks(dag_id: str) -> Mapping[str, Any]:
    """Read the tasks of the DAG's latest version by id; none where Airflow does not have it."""
    with create_session() as session:
        dag = SerializedDagModel.get_dag(dag_id, session=session)
    return dag.task_dict if dag else {}


def _instance(row: Any) -> InstanceState:
    return InstanceState(
        task_id=row.task_id,
        map_index=row.map_index,
        try_number=row.try_number or 0,
        state=str(row.state).upper() if row.state else "PENDING",
        started=_seconds(row.start_date),
        ended=_seconds(row.end_date),
        is_step=row.custom_operator_name == _STEP or row.operator == _GROUP,
        is_batch=row.operator == _BATCH,
        is_group=row.operator == _GROUP,
    )


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None
