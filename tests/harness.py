"""Run whole DAGs through Airflow's real task runner, with XCom in memory and no database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import structlog
from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
from airflow.sdk.definitions.xcom_arg import ConcatXComArg, XComArg
from airflow.sdk.execution_time import comms, task_runner

UNVERSIONED_BUNDLE = SimpleNamespace(name="tests", version=None)
# Airflow 3.1 knows no partitions.
_NO_PARTITION = {"partition_key": None} if "partition_key" in DagRun.model_fields else {}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class InMemorySupervisor:
    """Answer the messages of task processes as the supervisor would, from memory."""

    xcom: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    connections: dict[str, Any] = field(default_factory=dict)
    sent_messages: list[Any] = field(default_factory=list)
    mapped: set[str] = field(default_factory=set)

    def send(self, msg: Any) -> Any:
        self.sent_messages.append(msg)
        answer = getattr(self, f"_{type(msg).__name__}", None)
        return answer(msg) if answer else comms.OKResponse(ok=True)

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)

    def xcom_values(self, task_id: str, key: str = "return_value") -> list[Any]:
        found = {index: value for (task, k, index), value in self.xcom.items() if (task, k) == (task_id, key)}
        return [found[index] for index in sorted(found)]

    def _SetXCom(self, msg: Any) -> Any:
        self.xcom[(msg.task_id, msg.key, -1 if msg.map_index is None else msg.map_index)] = msg.value
        return comms.OKResponse(ok=True)

    def _GetXCom(self, msg: Any) -> Any:
        index = -1 if msg.map_index is None else msg.map_index
        return comms.XComResult(key=msg.key, value=self.xcom.get((msg.task_id, msg.key, index)))

    def _GetXComCount(self, msg: Any) -> Any:
        return comms.XComCountResponse(len=len(self.xcom_values(msg.task_id, msg.key)))

    def _GetXComSequenceItem(self, msg: Any) -> Any:
        values = self.xcom_values(msg.task_id, msg.key)
        if not -len(values) <= msg.offset < len(values):
            return comms.ErrorResponse(error=comms.ErrorType.XCOM_NOT_FOUND)
        return comms.XComSequenceIndexResult(root=values[msg.offset])

    def _GetXComSequenceSlice(self, msg: Any) -> Any:
        return comms.XComSequenceSliceResult(
            root=self.xcom_values(msg.task_id, msg.key)[slice(msg.start, msg.stop, msg.step)]
        )

    def _ValidateInletsAndOutlets(self, msg: Any) -> Any:
        return comms.InactiveAssetsResult(inactive_assets=[])

    def _GetConnection(self, msg: Any) -> Any:
        if msg.conn_id not in self.connections:
            return comms.ErrorResponse(error=comms.ErrorType.CONNECTION_NOT_FOUND)
        return comms.ConnectionResult(conn_id=msg.conn_id, **self.connections[msg.conn_id])


@dataclass
class TaskResult:
    """One task instance that was run."""

    task_id: str
    map_index: int
    state: str
    error: BaseException | None
    operator: Any
    label: str | None
    outlets: list[Any]
    events: dict[str, Any] = field(default_factory=dict)
    # What a deferred task told its supervisor.
    deferral: comms.DeferTask | None = None


@dataclass
class DagRunResult:
    """One DAG run: its task instances and what they left in XCom."""

    tasks: list[TaskResult]
    supervisor: InMemorySupervisor

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        return self.supervisor.xcom.get((task_id, key, map_index))

    def task(self, task_id: str, map_index: int = -1) -> TaskResult:
        return next(t for t in self.tasks if (t.task_id, t.map_index) == (task_id, map_index))

    @property
    def states(self) -> dict[str, str]:
        return {t.task_id if t.map_index < 0 else f"{t.task_id}[{t.map_index}]": t.state for t in self.tasks}


def run_dag(
    dag: Any,
    run_id: str = "manual__1",
    conf: dict[str, Any] | None = None,
    connections: dict[str, Any] | None = None,
    try_number: int = 1,
    max_tries: int | None = None,
    bundle: Any = UNVERSIONED_BUNDLE,
    resumed: dict[str, Any] | None = None,
    earlier: DagRunResult | None = None,
    **dag_run: Any,
) -> DagRunResult:
    """Run every task of a DAG once, in topological order; tasks after a failure are left out.

    `earlier` is the same DAG run before a retry or a clear: what succeeded in it is not run again. `resumed` are `next_method` and `next_kwargs` of a task that was deferred.
    `dag_run` are fields of the DAG run as Airflow tells it to tasks.
    """
    done = {(task.task_id, task.map_index): task for task in earlier.tasks} if earlier else {}
    supervisor = InMemorySupervisor(dict(earlier.supervisor.xcom) if earlier else {}, connections or {})
    run = DagRunResult([], supervisor)
    with _install_supervisor(supervisor):
        for task in dag.topological_sort():
            for map_index in _map_indexes(task, supervisor):
                before = done.get((task.task_id, map_index))
                run.tasks.append(
                    before
                    if before and before.state == "success"
                    else _run_task(
                        dag,
                        task,
                        map_index,
                        run_id,
                        {"conf": conf or {}, **dag_run},
                        (try_number, max_tries),
                        supervisor,
                        bundle,
                        resumed or {},
                    )
                )
                if run.tasks[-1].state != "success":
                    return run
    return run


@contextmanager
def _install_supervisor(supervisor: InMemorySupervisor) -> Iterator[None]:
    previous = getattr(task_runner, "SUPERVISOR_COMMS", None)
    task_runner.SUPERVISOR_COMMS = supervisor
    try:
        yield
    finally:
        if previous is None:
            del task_runner.SUPERVISOR_COMMS
        else:
            task_runner.SUPERVISOR_COMMS = previous


def _run_task(
    dag: Any,
    task: Any,
    map_index: int,
    run_id: str,
    dag_run: dict[str, Any],
    tries: tuple[int, int | None],
    supervisor: InMemorySupervisor,
    bundle: Any,
    resumed: dict[str, Any],
) -> TaskResult:
    try_number, max_tries = tries
    ti = task_runner.RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(),
        task_id=task.task_id,
        dag_id=dag.dag_id,
        run_id=run_id,
        try_number=try_number,
        map_index=map_index,
        hostname="localhost",
        dag_version_id=uuid.uuid4(),
        context_carrier={},
        task=task,
        bundle_instance=bundle,
        max_tries=task.retries if max_tries is None else max_tries,
        start_date=NOW,
        is_mapped=task.is_mapped,
        state="running",
        _ti_context_from_server=TIRunContext(
            dag_run=DagRun(
                dag_id=dag.dag_id,
                run_id=run_id,
                logical_date=NOW,
                data_interval_start=NOW,
                data_interval_end=NOW,
                run_after=NOW,
                start_date=NOW,
                end_date=None,
                state=DagRunState.RUNNING,
                consumed_asset_events=[],
                **{"run_type": DagRunType.MANUAL, **_NO_PARTITION, **dag_run},
            ),
            max_tries=0,
            should_retry=False,
            **resumed,
        ),
    )
    log = structlog.get_logger("harness")
    context = ti.get_template_context()
    state, message, error = task_runner.run(ti, context, log)
    task_runner.finalize(ti, state, context, log, error)
    outlets = list(getattr(message, "task_outlets", None) or [])
    events = {
        event["dest_asset_key"]["name"]: event["extra"] for event in getattr(message, "outlet_events", None) or []
    }
    return TaskResult(
        task.task_id,
        map_index,
        str(state.value),
        error,
        ti.task,
        ti.rendered_map_index,
        outlets,
        events,
        message if isinstance(message, comms.DeferTask) else None,
    )


def _map_indexes(task: Any, supervisor: InMemorySupervisor) -> list[int]:
    if not task.is_mapped:
        return [-1]
    expand_input = getattr(task, "op_kwargs_expand_input", None) or task.expand_input
    values = expand_input.value
    lengths = [_expanded_length(v, supervisor) for v in (values.values() if isinstance(values, dict) else [values])]
    total = 1
    for length in lengths:
        total *= length
    return list(range(total))


def _expanded_length(value: Any, supervisor: InMemorySupervisor) -> int:
    if not isinstance(value, XComArg):
        return len(value)
    if isinstance(value, ConcatXComArg):
        return sum(_expanded_length(arg, supervisor) for arg in value.args)
    operator = next(value.iter_references())[0]
    values = supervisor.xcom_values(operator.task_id)
    return len(values) if operator.is_mapped else len(values[0])
