"""The page of a mapped task: all its instances, sorted and in pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.ui.facts import bounded, is_number, output_facts, seconds_of, shorten
from airflow_zen.ui.responses import MappedPage, MappedPoint, MappedRow
from airflow_zen.ui.run_page import Instance, RunSnapshot
from airflow_zen.ui.step_metrics import StepMetrics, read_task_metrics

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.ui.access import Access
    from airflow_zen.ui.stacks import OpenedStack

_MAX_NAMES = 50
_PARAMETER, _METRIC = "parameter:", "metric:"


class MappedTask:
    """The instances of a mapped task in a DAG run, with their metrics in MLflow."""

    def __init__(self, snapshot: RunSnapshot, metrics: Mapping[int, StepMetrics]) -> None:
        self.snapshot = snapshot
        self.instances = sorted({*snapshot.runs, *snapshot.instances})
        self._metrics = metrics

    def run(self, instance: Instance) -> StepRun | None:
        """Return the record of an instance; None where it has none."""
        return self.snapshot.runs.get(instance)

    def metrics(self, instance: Instance) -> Mapping[str, float]:
        """Return what an instance logged: its metrics, and the numbers among the metadata of the step."""
        run = self.run(instance)
        logged = run.metadata.get("", {}) if run else {}
        numbers = {name: float(value) for name, value in logged.items() if is_number(value)}
        return {**numbers, **self._metrics.get(instance[1], StepMetrics()).values}

    def value(self, instance: Instance, fact: str) -> Any:
        """Return a fact of an instance: `parameter:<name>`, `metric:<name>`, or the name of a field of its row."""
        run = self.run(instance)
        if fact.startswith(_METRIC):
            return self.metrics(instance).get(fact.removeprefix(_METRIC))
        if fact.startswith(_PARAMETER):
            return run.parameters.get(fact.removeprefix(_PARAMETER)) if run else None
        facts: dict[str, Callable[[], Any]] = {
            "label": lambda: run.label if run else "",
            "state": lambda: self.snapshot.state(instance),
            "cache": lambda: str(run.cache) if run else "",
            "seconds": lambda: seconds_of(run) if run else None,
        }
        return facts.get(fact, lambda: instance[1])()


def mapped_page(
    opened: OpenedStack,
    snapshot: RunSnapshot,
    task_id: str,
    access: Access,
    *,
    offset: int,
    limit: int,
    sort: str,
    descending: bool,
    value: str,
) -> MappedPage:
    """Return some instances of a mapped task, and one value of each of them for a chart.

    sort, value: facts as `MappedTask.value` takes them; instances without it come last.
    """
    task = MappedTask(snapshot, read_task_metrics(opened, snapshot.dag_id, snapshot.run_id, task_id))
    shown = _sorted(task, sort, descending=descending)[offset : offset + limit]
    runs = list(snapshot.runs.values())
    return MappedPage(
        dag_id=snapshot.dag_id,
        run_id=snapshot.run_id,
        task_id=task_id,
        live=snapshot.airflow.is_live,
        in_batches=task_id in snapshot.batched,
        total=len(task.instances),
        states=dict(Counter(map(snapshot.state, task.instances))),
        parameter_names=_names(run.parameters for run in runs),
        metric_names=_names(map(task.metrics, task.instances)),
        rows=[_row(task, instance, access) for instance in shown],
        points=[_point(task, instance, value) for instance in task.instances],
    )


def _sorted(task: MappedTask, fact: str, *, descending: bool) -> list[Instance]:
    found = {instance: task.value(instance, fact) for instance in task.instances}
    known = [instance for instance, value in found.items() if value is not None]
    rest = [instance for instance, value in found.items() if value is None]
    are_numbers = all(is_number(found[instance]) for instance in known)
    known.sort(key=lambda each: found[each] if are_numbers else str(found[each]), reverse=descending)
    return [*known, *rest]


def _row(task: MappedTask, instance: Instance, access: Access) -> MappedRow:
    run, known = task.run(instance), task.snapshot.instances.get(instance)
    return MappedRow(
        map_index=instance[1],
        label=shorten(run.label, 300) if run else "",
        state=task.snapshot.state(instance),
        cache=str(run.cache) if run else "",
        why=shorten(run.why, 2000) if run else "",
        error=shorten(run.error, 2000) if run else "",
        started=run.started if run else known.started if known else None,
        ended=run.ended if run else known.ended if known else None,
        seconds=seconds_of(run) if run else None,
        seconds_saved=run.seconds_saved if run else 0.0,
        parameters=bounded(run.parameters) if run else {},
        metrics=dict(task.metrics(instance)),
        outputs=output_facts(run, access) if run else [],
    )


def _point(task: MappedTask, instance: Instance, fact: str) -> MappedPoint:
    value = task.value(instance, fact) if fact else None
    return MappedPoint(
        map_index=instance[1],
        state=task.snapshot.state(instance),
        seconds=task.value(instance, "seconds"),
        value=float(value) if value is not None and is_number(value) else None,
    )


def _names(values: Any) -> list[str]:
    names: dict[str, None] = {}
    for each in values:
        names |= dict.fromkeys(each)
        if len(names) >= _MAX_NAMES:
            break
    return [*names][:_MAX_NAMES]
