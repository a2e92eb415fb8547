"""Warnings of steps whose last peak of memory was near its limit."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactNotFound
from airflow_zen.markup import format_bytes
from airflow_zen.runs.step_run import StepRun, StepRunId
from airflow_zen.runtimes.memory_limits import memory_bytes, memory_limits, memory_of_try

if TYPE_CHECKING:
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.steps.runtime import ResourceHints

NEAR_LIMIT = 0.8
"""The share of its memory limit from which on a step's last peak is near it."""


class LastPeaks:
    """The memory that the steps of a DAG used in its latest run; read when it is first asked for.

    Of a reused result it is what the run used that computed it.
    """

    def __init__(self, records: StepRunRecords, dag_id: str) -> None:
        self._records, self._dag_id = records, dag_id

    def warning(self, task_id: str, map_index: int, limit: int = 0) -> str:
        """Return the warning of a step that will be computed; "" where it was not near its limit, or has none.

        `limit` is the one that the step will have, in bytes; 0 for that of the process it last ran in.
        """
        run = self._computed(task_id, map_index)
        limit = limit or (run.resources.memory_limit if run else 0)
        if run is None or not limit or run.resources.peak_memory < limit * NEAR_LIMIT:
            return ""
        peak = run.resources.peak_memory
        return (
            f"its last peak of memory, {format_bytes(peak)} in {run.id}, is {peak / limit:.0%} of its limit of "
            f"{format_bytes(limit)}. Give it more memory, or let it read tables in batches."
        )

    def _computed(self, task_id: str, map_index: int) -> StepRun | None:
        run = self._latest.get((task_id, map_index))
        try:
            return self._records.get(StepRunId.parse(run.origin)) if run and run.is_hit else run
        except ArtifactNotFound:
            return None

    @cached_property
    def _latest(self) -> dict[tuple[str, int], StepRun]:
        run_id = self._records.latest_dag_run(self._dag_id)
        runs = self._records.read_dag_run(self._dag_id, run_id) if run_id else ()
        return {(run.id.task_id, run.id.map_index): run for run in sorted(runs, key=lambda run: run.id.try_number)}


def memory_limit_of(runtime: Any, executor_config: Any, hints: ResourceHints | None = None) -> int:
    """Return the memory limit of a step's first try in bytes; 0 where neither its runtime, its pod nor its hints have one.

    That is a runtime's `memory`, else the limit of the container `base` in the `pod_override` of an `executor_config`, else
    the `memory` of the hints.
    """
    if limit := _first(getattr(runtime, "memory", ())):
        return limit
    pod = (executor_config or {}).get("pod_override")
    for container in getattr(getattr(pod, "spec", None), "containers", None) or ():
        limits = getattr(container.resources, "limits", None) or {}
        if container.name == "base" and "memory" in limits:
            return memory_bytes(limits["memory"])
    return _first(hints.memory) if hints else 0


def _first(memory: Any) -> int:
    """Return the limit of the first try in bytes; 0 for none."""
    limit = memory_of_try(memory_limits(memory or ()), 1)
    return memory_bytes(limit) if limit else 0
