"""States of the steps that share a task instance: the parts of a fused group that runs, and the elements of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_zen.ui.airflow_runs import read_tasks

if TYPE_CHECKING:
    from airflow_zen.ui.airflow_runs import InstanceState

Substep = tuple[str, int]


def with_substeps(
    dag_id: str, instances: Sequence[InstanceState], tries: Mapping[Substep, int]
) -> Sequence[InstanceState]:
    """Return task instances, those that several steps share replaced by one for each step that has no record of its try.

    tries: the latest try that has a record, by task and map index. A group that has not begun stays as it is, and so does
    an instance of which the DAG says nothing.
    """
    if not any(each.is_batch or each.is_group for each in instances):
        return instances
    tasks = read_tasks(dag_id)
    batches = {each.task_id: each.map_index for each in sorted(instances, key=lambda each: each.map_index)}
    found: list[InstanceState] = []
    for each in instances:
        parts = [*_parts(each, tasks.get(each.task_id), is_last=batches[each.task_id] == each.map_index)]
        is_known = each.state != "SUCCESS" or any(part in tries for part in parts)
        found += _without_record(each, parts, tries) if parts and is_known else [each]
    return found


def _parts(shared: InstanceState, task: Any, *, is_last: bool) -> Iterator[Substep]:
    """Yield the steps that a task instance runs, in their order."""
    if shared.is_group and shared.state == "RUNNING":
        yield from ((f"{shared.task_id}.{name}", shared.map_index) for name in getattr(task, "step_names", ()))
    if shared.is_batch and shared.map_index >= 0:
        options = getattr(task, "partial_kwargs", {})
        size = options.get("size", 0)
        begin = shared.map_index * size
        # Of elements that only the run knows, the last batch has at least one.
        count = _element_count(options.get("elements")) or (begin + 1 if is_last else begin + size)
        yield from ((shared.task_id, index) for index in range(begin, min(begin + size, count)))


def _element_count(elements: Any) -> int | None:
    """Return the number of the elements that the DAG lists; None where it lists none."""
    if isinstance(elements, list):
        return len(elements)
    if isinstance(elements, Mapping) and all(isinstance(each, list | Mapping) for each in elements.values()):
        return prod(map(len, elements.values()))
    return None


def _without_record(
    shared: InstanceState, parts: Sequence[Substep], tries: Mapping[Substep, int]
) -> Iterator[InstanceState]:
    """Yield an instance for each part without a record of this try; the first is the one that runs."""
    waiting = [part for part in parts if tries.get(part, 0) < shared.try_number]
    for number, (task_id, index) in enumerate(waiting if shared.state != "SUCCESS" else ()):
        is_current = number == 0 or shared.has_ended
        yield replace(
            shared,
            task_id=task_id,
            map_index=index,
            state=shared.state if is_current else "PENDING",
            started=shared.started if is_current else None,
            is_step=True,
            is_batch=False,
            is_group=False,
        )
