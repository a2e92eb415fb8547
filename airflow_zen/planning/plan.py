"""The plan of a DAG run: which steps it would reuse and which it would compute; nothing is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from statistics import median
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.xcom_arg import XComArg

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.operators.execute import bind_arguments, resolve_cache_mode, step_run_id, to_xcom
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.operators.stack_selection import check_inputs_in_stack, resolve_stack_name
from airflow_zen.planning.supervisor import (
    UNKNOWN_VALUE,
    PlannedDagRun,
    PlanningSupervisor,
    UnknownUntilRun,
    build_task_instance,
)
from airflow_zen.runs.step_run import StepRun
from airflow_zen.steps.cache_key import plan_step

if TYPE_CHECKING:
    from airflow_zen.caching.step_cache import KeyRecord
    from airflow_zen.stack import Stack


class Decision(StrEnum):
    """Whether a run would reuse a step, compute it, or only the run itself can tell."""

    HIT = "hit"
    MISS = "miss"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PlannedStep:
    """One step of a planned run; `seconds` and `size` (bytes) are estimates from earlier results, None without any."""

    task_id: str
    map_index: int
    decision: Decision
    reason: str
    seconds: float | None = None
    size: int | None = None


class Plan:
    """A plan that follows a DAG from its roots, with the outputs that earlier steps would return."""

    def __init__(self, dag: Any, run: PlannedDagRun) -> None:
        self._dag, self._run = dag, run
        self._stacks: dict[str | None, tuple[Settings, Stack]] = {}
        self._supervisor = PlanningSupervisor((dag.dag_id, run.run_id))

    def steps(self) -> Iterator[PlannedStep]:
        """Yield the plan of each step, in an order in which they could run."""
        for task in self._dag.topological_sort():
            if issubclass(getattr(task, "operator_class", type(task)), MLStepOperator):
                yield from self._plan_task(task)

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
        for map_index in indexes:
            planned, results[map_index] = self._plan_instance(task, map_index, settings, stack, history)
            yield planned
        self._supervisor.results[task.task_id] = results

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
        self, task: Any, map_index: int, settings: Settings, stack: Stack, history: list[KeyRecord]
    ) -> tuple[PlannedStep, Any]:
        """Plan one task instance, and return its outputs as XCom will hold them, where they are known."""
        ti = build_task_instance(task.prepare_for_execution(), map_index, self._run)
        try:
            with self._supervisor.activate():
                context = ti.get_template_context()
                ti.task.render_template_fields(context)
                operator = context["task"]
                arguments = bind_arguments(operator, context, stack)
                check_inputs_in_stack(arguments.inputs, settings, f"step {operator.task_id!r}")
        except Exception as error:  # noqa: BLE001 - the user's own templates may raise anything
            return _estimated_step(task, map_index, Decision.UNKNOWN, _describe_error(error), history), UNKNOWN_VALUE
        step = operator.step.with_cache_defaults(settings.cache_defaults)
        cache, why = resolve_cache_mode(operator, context, settings, stack.records)
        run = StepRun(step_run_id(ti), cache=cache, why=why)
        found = plan_step(step, arguments, step.extend_stack(stack), run, history=history)
        if found.entry is None:
            return _estimated_step(task, map_index, Decision.MISS, found.reason, history), UNKNOWN_VALUE
        outputs = {name: stack.store.relocate(ref) for name, ref in found.entry.outputs.items()}
        size = sum(ref.size for ref in outputs.values())
        seconds, origin = found.entry.seconds, found.entry.origin
        return PlannedStep(task.task_id, map_index, Decision.HIT, origin, seconds, size), to_xcom(step, outputs)


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
