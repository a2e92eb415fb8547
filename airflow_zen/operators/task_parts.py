"""Several steps in one task: what each of them sees of the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef


@dataclass(frozen=True)
class TaskPart:
    """One step of a task that runs several.

    `mapped` are the arguments that it is mapped over, by name. `inputs` are artifacts beside those in its arguments.
    """

    mapped: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, ArtifactRef] = field(default_factory=dict)


class PartInstance:
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


def part_context(context: Any, operator: Any, instance: PartInstance) -> Any:
    """Return the context of one step of a task; its label and arguments stay out of the task's own context."""
    return {**context, "ti": instance, "task_instance": instance, "task": operator}
