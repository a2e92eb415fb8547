"""Say what a DAG run would reuse and what it would compute, without running anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from statistics import median
from typing import Any

from airflow.sdk.definitions.xcom_arg import XComArg

from airflow_zen.caching.history import Remembered, explanation
from airflow_zen.errors import FingerprintError
from airflow_zen.operators.choice import chosen_stack, refuse_foreign
from airflow_zen.operators.execution import bind, caching, on_wire
from airflow_zen.operators.foresight import UNKNOWN, Foresight, FutureRun, NotForeseen, future_task
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.settings import Settings, open_stack
from airflow_zen.stack import Stack
from airflow_zen.steps.key import cache_key
from airflow_zen.steps.reuse import never_reused, reusable


class Verdict(StrEnum):
    """What will become of a step: reused, computed, or not known before the run."""

    HIT = "hit"
    MISS = "miss"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PlannedStep:
    """One step of a planned run. `seconds` and `size` (bytes) are what computing it took before; None: nobody knows."""

    task_id: str
    map_index: int
    verdict: Verdict
    why: str
    seconds: float | None = None
    size: int | None = None


class Plan:
    """Walk a DAG from its roots, each step decided with what the steps above it would give, in its own stack."""

    def __init__(self, dag: Any, run: FutureRun) -> None:
        self._dag, self._run = dag, run
        self._opened: dict[str | None, tuple[Settings, Stack]] = {}
        self._foresight = Foresight((dag.dag_id, run.run_id))

    def steps(self) -> Iterator[PlannedStep]:
        """Yield the plan of each step, in an order in which they could run."""
        for task in self._dag.topological_sort():
            if issubclass(getattr(task, "operator_class", type(task)), MLStepOperator):
                yield from self._task(task)

    def _open(self, task: Any) -> tuple[Settings, Stack]:
        """Open the stack that the run or the task asks for; once for all of its tasks."""
        declared = task.partial_kwargs.get("stack", "") if task.is_mapped else task.stack
        name = chosen_stack(self._run.conf, declared)
        if name not in self._opened:
            settings = Settings.read(name)
            self._opened[name] = settings, open_stack(settings)
        return self._opened[name]

    def _task(self, task: Any) -> Iterator[PlannedStep]:
        self._settings, self._stack = self._open(task)
        history = self._stack.cache.history.of(self._dag.dag_id, task.task_id)
        try:
            with self._foresight.active():
                indexes = self._map_indexes(task)
        except Exception as error:  # noqa: BLE001 - whatever the user's own mapping raises before the run
            yield self._planned(task, -1, Verdict.UNKNOWN, f"how many there will be: {_told(error)}", history)
            return
        if not indexes:
            yield self._planned(task, -1, Verdict.UNKNOWN, "there is nothing to map over", history)
            return
        results: dict[int, Any] = {}
        for map_index in indexes:
            planned, results[map_index] = self._instance(task, map_index, history)
            yield planned
        self._foresight.results[task.task_id] = results

    def _instance(self, task: Any, map_index: int, history: list[Remembered]) -> tuple[PlannedStep, Any]:
        """Decide one task instance; its outputs as XCom will hold them, where they are known."""
        ti = future_task(task.prepare_for_execution(), map_index, self._run)
        try:
            with self._foresight.active():
                context = ti.get_template_context()
                ti.task.render_template_fields(context)
                operator = context["task"]
                arguments = bind(operator, context, self._stack)
                refuse_foreign(arguments.inputs, self._settings, f"step {operator.task_id!r}")
        except Exception as error:  # noqa: BLE001 - whatever the user's own templates raise before the run
            return self._planned(task, map_index, Verdict.UNKNOWN, _told(error), history), UNKNOWN
        state, why = caching(operator, context, self._settings, self._stack.records)
        if state != "miss":
            return self._planned(task, map_index, Verdict.MISS, why, history), UNKNOWN
        return self._look_up(operator, arguments, map_index, history)

    def _look_up(
        self, operator: MLStepOperator, arguments: Any, map_index: int, history: list[Remembered]
    ) -> tuple[PlannedStep, Any]:
        step = operator.step.with_cache_defaults(self._settings.cache_defaults)
        if why := never_reused(step):
            return self._planned(operator, map_index, Verdict.MISS, why, history), UNKNOWN
        try:
            key = cache_key(step, arguments, step.reader(self._stack), self._dag.dag_id)
        except FingerprintError as error:
            return self._planned(operator, map_index, Verdict.MISS, f"not cached: {error}", history), UNKNOWN
        except Exception as error:  # noqa: BLE001 - the run will say the same, and go on
            why = f"the cache could not be asked: {error}"
            return self._planned(operator, map_index, Verdict.MISS, why, history), UNKNOWN
        entry, why = reusable(key, step.cache, self._stack)
        if entry is None:
            why = why or explanation(key.ingredients, key.sources, history)
            return self._planned(operator, map_index, Verdict.MISS, why, history), UNKNOWN
        outputs = {name: self._stack.store.relocate(ref) for name, ref in entry.outputs.items()}
        size = sum(ref.size for ref in outputs.values())
        planned = PlannedStep(operator.task_id, map_index, Verdict.HIT, entry.origin, entry.seconds, size)
        return planned, on_wire(step, outputs)

    def _planned(self, task: Any, map_index: int, verdict: Verdict, why: str, history: list[Remembered]) -> PlannedStep:
        """Estimate by the median of the task's latest results."""
        seconds = [entry.seconds for entry in history if entry.seconds is not None]
        sizes = [entry.size for entry in history if entry.size is not None]
        return PlannedStep(
            task.task_id,
            map_index,
            verdict,
            why,
            median(seconds) if seconds else None,
            round(median(sizes)) if sizes else None,
        )

    def _map_indexes(self, task: Any) -> list[int]:
        if next(task.iter_mapped_task_groups(), None):
            raise NotForeseen("it is in a mapped task group")
        if not task.is_mapped:
            return [-1]
        mapped = (getattr(task, "op_kwargs_expand_input", None) or task.expand_input).value
        context = future_task(task, 0, self._run).get_template_context()
        values = mapped.values() if isinstance(mapped, Mapping) else [mapped]
        return list(range(prod(len(v.resolve(context) if isinstance(v, XComArg) else v) for v in values)))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, NotForeseen) else f"{type(error).__name__}: {error}"
