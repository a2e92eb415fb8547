"""The plan of a DAG run: which steps it would reuse and which it would compute; nothing is run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import prod
from statistics import median
from typing import TYPE_CHECKING, Any

from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
from airflow.sdk.definitions.xcom_arg import XComArg
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms, task_runner

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import ZenError
from airflow_zen.operators.batch import BatchOperator
from airflow_zen.operators.execute import resolve_cache_mode, resolve_step, to_xcom
from airflow_zen.operators.fused import FusedOperator, output_keys
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.operators.stack_selection import check_inputs_in_stack, resolve_stack_name
from airflow_zen.operators.step_run import step_run_id
from airflow_zen.planning.memory_warnings import LastPeaks, memory_limit_of
from airflow_zen.planning.planned_step import Decision, PlannedStep
from airflow_zen.runs.step_run import StepRun
from airflow_zen.steps.cache_key import plan_step
from airflow_zen.steps.runtime import InProcess

if TYPE_CHECKING:
    from airflow_zen.caching.code import KnownCode
    from airflow_zen.caching.step_cache import KeyRecord
    from airflow_zen.stack import Stack
    from airflow_zen.steps.cache_key import CacheKey
    from airflow_zen.steps.step import Step


RETURN_VALUE = "return_value"
_ENVIRONMENT = ("python", "distribution", "image")
UNKNOWN_VALUE: Any = type("Unknown", (), {"__repr__": lambda self: "UNKNOWN_VALUE"})()


class Plan:
    """A plan that follows a DAG from its roots, with the outputs that earlier steps would return."""

    def __init__(self, dag: Any, run: PlannedDagRun) -> None:
        self._dag, self._run = dag, run
        self._stacks: dict[str | None, tuple[Settings, Stack]] = {}
        self._peaks: dict[str, LastPeaks] = {}
        self._supervisor = PlanningSupervisor((dag.dag_id, run.run_id))

    def steps(self) -> Iterator[PlannedStep]:
        """Yield the plan of each step, in an order in which they could run."""
        for task in self._dag.topological_sort():
            if issubclass(getattr(task, "operator_class", type(task)), MLStepOperator):
                yield from self._plan_task(task)
            elif isinstance(task, FusedOperator):
                yield from self._plan_group(task)

    def _plan_task(self, task: Any) -> Iterator[PlannedStep]:
        settings, stack = self._open_stack(task)
        history = stack.cache.history.recent_records(self._dag.dag_id, task.task_id)
        try:
            with self._supervisor.activate():
                indexes = self._map_indexes(task)
            reason = "there is nothing to map over"
        except Exception as error:  # noqa: BLE001 - the user's own mapping may raise anything
            indexes, reason = [], f"how many there will be: {_describe_error(error)}"
        if not indexes:
            yield _estimated_step(task, -1, Decision.UNKNOWN, reason, history)
            return
        results: dict[int, Any] = {}
        known_code: KnownCode = {}
        for map_index in indexes:
            found, results[map_index] = self._plan_instance(task, map_index, settings, stack, history, known_code)
            yield from found
        self._supervisor.results[task.task_id] = results

    def _plan_group(self, group: FusedOperator) -> Iterator[PlannedStep]:
        """Yield the plans of the steps of a fused group."""
        settings, stack = self._open_stack(group)
        found: dict[str, Any] = {}
        known_code: KnownCode = {}
        context = build_task_instance(group.prepare_for_execution(), -1, self._run).get_template_context()
        for name, operator, own, results in group.parts(context):
            history = stack.cache.history.recent_records(self._dag.dag_id, operator.task_id)
            try:
                with self._supervisor.activate():
                    operator.render_template_fields(own)
            except Exception as error:  # noqa: BLE001 - the user's own templates may raise anything
                planned, result = (
                    _estimated_step(operator, -1, Decision.UNKNOWN, _describe_error(error), history),
                    UNKNOWN_VALUE,
                )
            else:
                planned, result = self._plan_step(operator, own, -1, settings, stack, history, known_code)
            yield planned
            names = operator.step.outputs.names if operator.step.outputs.is_multiple else ()
            if result is UNKNOWN_VALUE:
                found |= dict.fromkeys([name, *(f"{name}.{output}" for output in names)], UNKNOWN_VALUE)
            else:
                results.update(output_keys(name, result, multiple=bool(names)))
        self._supervisor.results[group.task_id] = {-1: {**found, **results}}

    def _open_stack(self, task: Any) -> tuple[Settings, Stack]:
        """Open the stack that the run or the task declares, once for all tasks."""
        name = resolve_stack_name(
            self._run.conf, task.partial_kwargs.get("stack", "") if task.is_mapped else task.stack
        )
        if name not in self._stacks:
            settings = Settings.read(name)
            self._stacks[name] = settings, open_stack(settings)
        return self._stacks[name]

    def _map_indexes(self, task: Any) -> list[int]:
        if next(task.iter_mapped_task_groups(), None):
            raise UnknownUntilRun("it is in a mapped task group")
        if not task.is_mapped:
            return [-1]
        mapped = (getattr(task, "op_kwargs_expand_input", None) or task.expand_input).value
        context = build_task_instance(task, 0, self._run).get_template_context()
        values = mapped.values() if isinstance(mapped, Mapping) else [mapped]
        return list(range(prod(len(v.resolve(context) if isinstance(v, XComArg) else v) for v in values)))

    def _plan_instance(
        self,
        task: Any,
        map_index: int,
        settings: Settings,
        stack: Stack,
        history: list[KeyRecord],
        known_code: KnownCode,
    ) -> tuple[list[PlannedStep], Any]:
        """Plan one task instance, of a batch each element, and return its outputs in their XCom form, if they are known."""
        ti = build_task_instance(task.prepare_for_execution(), map_index, self._run)
        try:
            with self._supervisor.activate():
                context = ti.get_template_context()
                ti.task.render_template_fields(context)
                operator = context["task"]
                parts = [*operator.parts(context)] if isinstance(operator, BatchOperator) else []
        except Exception as error:  # noqa: BLE001 - the user's own templates may raise anything
            unknown = _estimated_step(task, map_index, Decision.UNKNOWN, _describe_error(error), history)
            return [unknown], UNKNOWN_VALUE
        if isinstance(operator, BatchOperator):
            found = [
                self._plan_step(each, own, index, settings, stack, history, known_code) for index, _, each, own in parts
            ]
            outputs = [output for _, output in found]
            return [planned for planned, _ in found], UNKNOWN_VALUE if UNKNOWN_VALUE in outputs else outputs
        planned, result = self._plan_step(operator, context, map_index, settings, stack, history, known_code)
        return [planned], result

    def _plan_step(
        self,
        operator: Any,
        context: Any,
        map_index: int,
        settings: Settings,
        stack: Stack,
        history: list[KeyRecord],
        known_code: KnownCode,
    ) -> tuple[PlannedStep, Any]:
        """Plan one step with its rendered operator, and return its outputs in their XCom form, if they are known."""
        try:
            with self._supervisor.activate():
                step, arguments = resolve_step(operator, context, settings, stack)
                check_inputs_in_stack(arguments.inputs, settings, f"step {operator.task_id!r}")
        except Exception as error:  # noqa: BLE001 - the user's own templates may raise anything
            return _estimated_step(
                operator, map_index, Decision.UNKNOWN, _describe_error(error), history
            ), UNKNOWN_VALUE
        cache, why = resolve_cache_mode(operator, context, settings, stack.records)
        run = StepRun(step_run_id(context["ti"]), cache=cache, why=why)
        found = plan_step(step, arguments, step.extend_stack(stack), run, history=history, known_code=known_code)
        where = _describe_runtime(step, found.key)
        if found.entry is None:
            missed = _estimated_step(operator, map_index, Decision.MISS, found.reason, history)
            limit = memory_limit_of(step.runtime, operator.executor_config, operator.hints)
            warning = self._last_peaks(stack).warning(operator.task_id, map_index, limit)
            return replace(missed, warning=warning, **where), UNKNOWN_VALUE
        outputs = {name: stack.store.relocate(ref) for name, ref in found.entry.outputs.items()}
        size = sum(ref.size for ref in outputs.values())
        seconds, origin = found.entry.seconds, found.entry.origin
        planned = PlannedStep(operator.task_id, map_index, Decision.HIT, origin, seconds, size, **where)
        return planned, to_xcom(step, outputs)

    def _last_peaks(self, stack: Stack) -> LastPeaks:
        return self._peaks.setdefault(stack.store.root, LastPeaks(stack.records, self._dag.dag_id))


def _describe_runtime(step: Step, key: CacheKey | None) -> dict[str, Any]:
    """Return the fields of a planned step about its runtime; none for a step in the task's process."""
    if isinstance(step.runtime, InProcess):
        return {}
    ingredients = key.ingredients if key else {}
    found = {label: value for label, value in ingredients.items() if label.partition(" ")[0] in _ENVIRONMENT}
    return {"runtime": repr(step.runtime), "environment": found}


def _estimated_step(
    task: Any, map_index: int, decision: Decision, reason: str, history: list[KeyRecord]
) -> PlannedStep:
    """Estimate seconds and size by the median of the task's latest results."""
    seconds = [entry.seconds for entry in history if entry.seconds is not None]
    sizes = [entry.size for entry in history if entry.size is not None]
    size = round(median(sizes)) if sizes else None
    return PlannedStep(task.task_id, map_index, decision, reason, median(seconds) if seconds else None, size)


def _describe_error(error: Exception) -> str:
    return str(error) if isinstance(error, UnknownUntilRun) else f"{type(error).__name__}: {error}"


class UnknownUntilRun(ZenError, LookupError):
    """A value depends on the run."""


def parse_dag(dag_id: str) -> Any:
    """Parse the DAG's own file if Airflow knows it, else the bundles."""
    from airflow.models import DagModel
    from airflow.utils.cli import get_bagged_dag

    if known := DagModel.get_current(dag_id):
        return get_bagged_dag([known.bundle_name], dag_id, dagfile_path=known.fileloc)
    return get_bagged_dag(None, dag_id)


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
    map index, `UNKNOWN_VALUE` if they depend on the run. For a task without results, the number of mapped instances is
    unknown, too.
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
                found = self._results_of(msg.task_id).get(-1 if msg.map_index is None else msg.map_index)
                return comms.XComResult(key=msg.key, value=_require_known(found, msg))
            case comms.GetXComCount():
                return comms.XComCountResponse(len=len(self._results_of(msg.task_id)))
            case comms.GetXComSequenceItem():
                values = self._ordered_results(msg.task_id)
                if not -len(values) <= msg.offset < len(values):
                    return comms.ErrorResponse(error=ErrorType.XCOM_NOT_FOUND)
                return comms.XComSequenceIndexResult(root=_require_known(values[msg.offset], msg))
            case comms.GetXComSequenceSlice():
                values = [_require_known(value, msg) for value in self._ordered_results(msg.task_id)]
                return comms.XComSequenceSliceResult(root=values[slice(msg.start, msg.stop, msg.step)])
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

    def _ordered_results(self, task_id: str) -> list[Any]:
        return [value for _, value in sorted(self._results_of(task_id).items())]


def _get_variable(key: str) -> Any:
    """Read a Variable from Airflow's database, which the run asks after the secrets backends of the worker."""
    from airflow.secrets.metastore import MetastoreBackend

    value = MetastoreBackend().get_variable(key)
    if value is None:
        return comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
    return comms.VariableResult(key=key, value=value)


def _require_known(value: Any, msg: Any) -> Any:
    found = value if msg.key == RETURN_VALUE or value is UNKNOWN_VALUE else value[msg.key]
    if found is UNKNOWN_VALUE:
        raise UnknownUntilRun(f"needs the result of {msg.task_id!r}")
    return found


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
