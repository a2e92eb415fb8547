"""Several steps in one task: what each of them sees of the task, and its result of an earlier try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_zen.caching.step_cache import CacheEntry
from airflow_zen.errors import UNREADABLE, ArtifactNotFound
from airflow_zen.runs.step_run import StepRun, StepState

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.stack import Stack
    from airflow_zen.steps.arguments import Arguments
    from airflow_zen.steps.step import Step


@dataclass(frozen=True)
class Substep:
    """One step of a task that runs several.

    `mapped` are the arguments that it is mapped over, by name. `inputs` are artifacts beside those in its arguments.
    """

    mapped: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, ArtifactRef] = field(default_factory=dict)


class SubstepInstance:
    """The task instance, as one of the steps in it sees it: with that step's task id and map index.

    `results` are the outputs of earlier steps of the task in their XCom form, by key.
    """

    def __init__(self, ti: Any, task_id: str, map_index: int, results: Mapping[str, Any] | None = None) -> None:
        self._ti = ti
        self.task_id = task_id
        self.map_index = map_index
        self.results = results
        self.rendered_map_index = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)


def substep_context(context: Any, operator: Any, instance: SubstepInstance) -> Any:
    """Return the context of one step of a task; its label and arguments stay out of the task's own context."""
    return {**context, "ti": instance, "task_instance": instance, "task": operator}


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
