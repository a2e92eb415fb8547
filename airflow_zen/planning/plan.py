"""Say what a DAG run would reuse and what it would compute, without running anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from statistics import median
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.xcom_arg import XComArg

from airflow_zen.caching.key_history import KeyRecord, explain_miss
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import FingerprintError
from airflow_zen.operators.execute import bind_arguments, resolve_cache_mode, to_xcom
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.operators.stack_selection import check_inputs_in_stack, resolve_stack_name
from airflow_zen.planning.supervisor import (
    UNKNOWN_VALUE,
    PlannedDagRun,
    PlanningSupervisor,
    UnknownUntilRun,
    build_task_instance,
)
from airflow_zen.runs.step_run import CacheState
from airflow_zen.steps.cache_key import cache_key
from airflow_zen.steps.run import find_valid_entry, uncacheable_reason

if TYPE_CHECKING:
    from airflow_zen.stack import Stack


class Decision(StrEnum):
    """What will become of a step: reused, computed, or not known before the run."""

    HIT = "hit"
    MISS = "miss"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PlannedStep:
    """One step of a planned run. `seconds` and `size` (bytes) are what computing it took before; None: nobody knows."""

    task_id: str
    map_index: int
    decision: Decision
    reason: str
    seconds: float | None = None
    size: int | None = None


class Plan:
    """Walk a DAG from its roots, each step decided with what the steps above it would give, in its own stack."""

    def __init__(self, dag: Any, run: PlannedDagRun) -> None:
        self._dag, self._run = dag, run
        self._stacks: dict[str | None, tuple[Settings, Stack]] = {}
        self._supervisor = PlanningSupervisor((dag.dag_id, run.run_id))

    def steps(self) -> Iterator[PlannedStep]:
        """Yield the plan of each step, in an order in which they could run."""
        for task in self._dag.topological_sort():
            if issubclass(getattr(task, "operator_class", type(task)), MLStepOperator):
                yield from self._plan_task(task)

    def _open_stack(self, task: Any) -> tuple[Settings, Stack]:
        """Open the stack that the run or the task asks for; once for all of its tasks."""
        declared = task.partial_kwargs.get("stack", "") if task.is_mapped else task.stack
        name = resolve_stack_name(self._run.conf, declared)
        if name not in self._stacks:
            settings = Settings.read(name)
            self._stacks[name] = settings, open_stack(settings)
        return self._stacks[name]

    def _plan_task(self, task: Any) -> Iterator[PlannedStep]:
        self._settings, self._stack = self._open_stack(task)
        history = self._stack.cache.history.recent_records(self._dag.dag_id, task.task_id)
        try:
            with self._supervisor.activate():
                indexes = self._map_indexes(task)
        except Exception as error:  # noqa: BLE001 - whatever the user's own mapping raises before the run
            yield self._planned_step(
                task, -1, Decision.UNKNOWN, f"how many there will be: {_describe_error(error)}", history
            )
            return
        if not indexes:
            yield self._planned_step(task, -1, Decision.UNKNOWN, "there is nothing to map over", history)
            return
        results: dict[int, Any] = {}
        for map_index in indexes:
            planned, results[map_index] = self._plan_instance(task, map_index, history)
            yield planned
        self._supervisor.results[task.task_id] = results

    def _plan_instance(self, task: Any, map_index: int, history: list[KeyRecord]) -> tuple[PlannedStep, Any]:
        """Decide one task instance; its outputs as XCom will hold them, where they are known."""
        ti = build_task_instance(task.prepare_for_execution(), map_index, self._run)
        try:
            with self._supervisor.activate():
                context = ti.get_template_context()
                ti.task.render_template_fields(context)
                operator = context["task"]
                arguments = bind_arguments(operator, context, self._stack)
                check_inputs_in_stack(arguments.inputs, self._settings, f"step {operator.task_id!r}")
        except Exception as error:  # noqa: BLE001 - whatever the user's own templates raise before the run
            return self._planned_step(task, map_index, Decision.UNKNOWN, _describe_error(error), history), UNKNOWN_VALUE
        state, reason = resolve_cache_mode(operator, context, self._settings, self._stack.records)
        if state is not CacheState.MISS:
            return self._planned_step(task, map_index, Decision.MISS, reason, history), UNKNOWN_VALUE
        return self._look_up(operator, arguments, map_index, history)

    def _look_up(
        self, operator: MLStepOperator, arguments: Any, map_index: int, history: list[KeyRecord]
    ) -> tuple[PlannedStep, Any]:
        step = operator.step.with_cache_defaults(self._settings.cache_defaults)
        if reason := uncacheable_reason(step):
            return self._planned_step(operator, map_index, Decision.MISS, reason, history), UNKNOWN_VALUE
        try:
            key = cache_key(step, arguments, step.extend_stack(self._stack), self._dag.dag_id)
        except FingerprintError as error:
            return self._planned_step(
                operator, map_index, Decision.MISS, f"not cached: {error}", history
            ), UNKNOWN_VALUE
        except Exception as error:  # noqa: BLE001 - the run will say the same, and go on
            reason = f"the cache could not be asked: {error}"
            return self._planned_step(operator, map_index, Decision.MISS, reason, history), UNKNOWN_VALUE
        entry, reason = find_valid_entry(key, step.cache, self._stack)
        if entry is None:
            reason = reason or explain_miss(key.ingredients, key.sources, history)
            return self._planned_step(operator, map_index, Decision.MISS, reason, history), UNKNOWN_VALUE
        outputs = {name: self._stack.store.relocate(ref) for name, ref in entry.outputs.items()}
        size = sum(ref.size for ref in outputs.values())
        planned = PlannedStep(operator.task_id, map_index, Decision.HIT, entry.origin, entry.seconds, size)
        return planned, to_xcom(step, outputs)

    def _planned_step(
        self, task: Any, map_index: int, decision: Decision, reason: str, history: list[KeyRecord]
    ) -> PlannedStep:
        """Estimate by the median of the task's latest results."""
        seconds = [entry.seconds for entry in history if entry.seconds is not None]
        sizes = [entry.size for entry in history if entry.size is not None]
        return PlannedStep(
            task.task_id,
            map_index,
            decision,
            reason,
            median(seconds) if seconds else None,
            round(median(sizes)) if sizes else None,
        )

    def _map_indexes(self, task: Any) -> list[int]:
        if next(task.iter_mapped_task_groups(), None):
            raise UnknownUntilRun("it is in a mapped task group")
        if not task.is_mapped:
            return [-1]
        mapped = (getattr(task, "op_kwargs_expand_input", None) or task.expand_input).value
        context = build_task_instance(task, 0, self._run).get_template_context()
        values = mapped.values() if isinstance(mapped, Mapping) else [mapped]
        return list(range(prod(len(v.resolve(context) if isinstance(v, XComArg) else v) for v in values)))


def _describe_error(error: Exception) -> str:
    return str(error) if isinstance(error, UnknownUntilRun) else f"{type(error).__name__}: {error}"
