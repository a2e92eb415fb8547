"""A stand-in for Airflow's supervisor, which renders arguments before the DAG run exists."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms, task_runner

from airflow_zen.errors import ZenError

RETURN_VALUE = "return_value"
UNKNOWN_VALUE: Any = type("Unknown", (), {"__repr__": lambda self: "UNKNOWN_VALUE"})()


class UnknownUntilRun(ZenError, LookupError):
    """A value is known only when the run exists."""


@dataclass(frozen=True)
class PlannedDagRun:
    """The DAG run that is planned."""

    conf: Mapping[str, Any]
    logical_date: datetime | None
    data_interval: tuple[datetime, datetime] | None
    run_after: datetime
    partition_key: str | None = None

    @property
    def run_id(self) -> str:
        """The id that Airflow gives to a run triggered by hand."""
        return f"manual__{self.run_after.isoformat()}"


@dataclass
class PlanningSupervisor:
    """Answers a task's requests from the results of earlier tasks of the plan.

    `run` is DAG and run id of the planned run; XCom of other runs is unknown. `results` are return values by task and
    map index, `UNKNOWN_VALUE` where only the run knows them. Of a task that is not in it not even the number of mapped
    instances is known.
    """

    run: tuple[str, str]
    results: dict[str, dict[int, Any]] = field(default_factory=dict)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Replace the supervisor of this process for the block."""
        previous = getattr(task_runner, "SUPERVISOR_COMMS", None)
        task_runner.SUPERVISOR_COMMS = self  # type: ignore[assignment]
        try:
            yield
        finally:
            if previous is None:
                del task_runner.SUPERVISOR_COMMS
            else:
                task_runner.SUPERVISOR_COMMS = previous

    def send(self, msg: Any) -> Any:
        """Return the answer to one request, or raise `UnknownUntilRun`."""
        if (getattr(msg, "dag_id", self.run[0]), getattr(msg, "run_id", self.run[1])) != self.run:
            raise UnknownUntilRun(f"asks for a result of another DAG run: {msg.dag_id}/{msg.run_id}")
        match msg:
            case comms.GetXCom():
                return self._get_xcom(msg)
            case comms.GetXComCount():
                return comms.XComCountResponse(len=len(self._results_of(msg.task_id)))
            case comms.GetXComSequenceItem():
                return self._get_xcom_item(msg)
            case comms.GetXComSequenceSlice():
                return self._get_xcom_slice(msg)
            case comms.GetVariable():
                return _get_variable(msg.key)
        raise UnknownUntilRun(f"asks Airflow for {type(msg).__name__.removeprefix('Get')}, which only the run knows")

    async def asend(self, msg: Any) -> Any:
        """Return the answer of `send`."""
        return self.send(msg)

    def _results_of(self, task_id: str) -> dict[int, Any]:
        if task_id not in self.results:
            raise UnknownUntilRun(f"needs the result of {task_id!r}")
        return self.results[task_id]

    def _get_xcom(self, msg: Any) -> Any:
        index = -1 if msg.map_index is None else msg.map_index
        return comms.XComResult(key=msg.key, value=_require_known(self._results_of(msg.task_id).get(index), msg))

    def _get_xcom_item(self, msg: Any) -> Any:
        values = [value for _, value in sorted(self._results_of(msg.task_id).items())]
        if not -len(values) <= msg.offset < len(values):
            return comms.ErrorResponse(error=ErrorType.XCOM_NOT_FOUND)
        return comms.XComSequenceIndexResult(root=_require_known(values[msg.offset], msg))

    def _get_xcom_slice(self, msg: Any) -> Any:
        values = [_require_known(value, msg) for _, value in sorted(self._results_of(msg.task_id).items())]
        return comms.XComSequenceSliceResult(root=values[slice(msg.start, msg.stop, msg.step)])


def _get_variable(key: str) -> Any:
    """Read a Variable from Airflow's database, which the run asks after the secrets backends of the worker."""
    from airflow.secrets.metastore import MetastoreBackend

    value = MetastoreBackend().get_variable(key)
    if value is None:
        return comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
    return comms.VariableResult(key=key, value=value)


def _require_known(value: Any, msg: Any) -> Any:
    if value is UNKNOWN_VALUE:
        raise UnknownUntilRun(f"needs the result of {msg.task_id!r}")
    return value if msg.key == RETURN_VALUE else value[msg.key]


def build_task_instance(task: Any, map_index: int, run: PlannedDagRun) -> Any:
    """Return the task instance that Airflow's task runner would create for one task of the planned run."""
    start, end = run.data_interval or (None, None)
    dag_run = DagRun.model_construct(
        dag_id=task.dag.dag_id,
        run_id=run.run_id,
        logical_date=run.logical_date,
        data_interval_start=start,
        data_interval_end=end,
        run_after=run.run_after,
        start_date=run.run_after,
        end_date=None,
        run_type=DagRunType.MANUAL,
        state=DagRunState.RUNNING,
        conf=dict(run.conf),
        consumed_asset_events=[],
        partition_key=run.partition_key,
        partition_date=None,
    )
    return task_runner.RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(),
        task_id=task.task_id,
        dag_id=task.dag.dag_id,
        run_id=run.run_id,
        try_number=1,
        map_index=map_index,
        hostname="",
        dag_version_id=uuid.uuid4(),
        context_carrier={},
        task=task,
        bundle_instance=None,
        max_tries=task.retries,
        start_date=run.run_after,
        is_mapped=task.is_mapped,
        state="running",
        _ti_context_from_server=TIRunContext(dag_run=dag_run, max_tries=task.retries, should_retry=False),
    )
