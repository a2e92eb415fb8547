"""The result of an earlier try of a task, for a step that is not looked up in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.caching.step_cache import CacheEntry
from airflow_zen.errors import UNREADABLE, ArtifactNotFound
from airflow_zen.runs.step_run import StepRun, StepState

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.arguments import Arguments
    from airflow_zen.steps.step import Step


def find_finished(step: Step, arguments: Arguments, stack: Stack, run: StepRun) -> CacheEntry | None:
    """Return what an earlier try of the task instance computed with the same code and arguments; None without any.

    A try before the task was cleared does not count: its result is wanted again. Nor does one whose artifacts are gone.
    """
    run = replace(run, parameters=arguments.parameters(), inputs={**run.inputs, **arguments.inputs})
    wanted = stack.redactor.step_run(run)
    for try_number in range(run.id.try_number - 1, 0, -1):
        try:
            earlier = stack.records.get(replace(run.id, try_number=try_number))
        except (ArtifactNotFound, *UNREADABLE):
            continue
        if earlier.clear_number != run.clear_number:
            return None
        if _is_result(earlier, wanted, step) and not stack.store.missing(earlier.outputs.values()):
            return CacheEntry("", earlier.outputs, str(earlier.id), earlier.seconds, earlier.end_time, page=run.log_url)
    return None


def _is_result(earlier: StepRun, wanted: StepRun, step: Step) -> bool:
    same = ("source", "parameters", "selected", "code_version")
    return (
        earlier.state is StepState.FINISHED
        and set(step.outputs.names) <= earlier.outputs.keys() | set(earlier.outputs if step.outputs.each else ())
        and all(getattr(earlier, name) == getattr(wanted, name) for name in same)
        and _digests(earlier.inputs) == _digests(wanted.inputs)
    )


def _digests(inputs: Mapping[str, ArtifactRef]) -> Mapping[str, str]:
    return {path: ref.digest for path, ref in inputs.items()}
