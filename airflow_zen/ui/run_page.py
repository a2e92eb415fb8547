"""The page of a DAG run: its lineage graph, and its steps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.lineage.graph.model import CACHED, Graph, Node, NodeKind, build_graph
from airflow_zen.lineage.savings import totals_of_dag_run
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.ui.airflow_runs import DagRunState, InstanceState, read_dag_run, read_tasks
from airflow_zen.ui.facts import (
    group_of,
    key_of_origin,
    output_facts,
    resources_of,
    seconds_of,
    shorten,
    state_of,
    visible_run,
)
from airflow_zen.ui.mlflow_links import dag_run_links
from airflow_zen.ui.responses import GraphEdge, GraphNode, RunPage, StepRow, Totals
from airflow_zen.ui.substep_states import with_substeps

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.description import PageUrls
    from airflow_zen.ui.access import Access
    from airflow_zen.ui.stacks import DagRunRecords, OpenedStack

COLLAPSE_ABOVE = 3
_MAX_OUTPUTS = 20
_MAX_ORDER_EDGES = 20
# Seconds since the epoch, after every other start.
_NOT_STARTED = 1e11
# The worst state stands for a group.
_BY_SEVERITY = ("FAILED", "KILLED", "UPSTREAM_FAILED", "UP_FOR_RETRY", "RUNNING", "DEFERRED", "RESTARTING", "QUEUED")
_ENDED_STATES = ("FINISHED", CACHED, "SKIPPED", "REMOVED", "FAILED", "KILLED", "UPSTREAM_FAILED")
# The page writes these numbers as the reader's language asks for.
_FACTS_WITH_FIELDS = ("time", "size", "mapped", "states")

Instance = tuple[str, int]


class RunSnapshot(msgspec.Struct, frozen=True):
    """A DAG run at one moment: the latest records of its step runs, and the state of each of its steps by instance.

    batched: the steps that run in batches, whose elements are the instances. A fused group is one step until it runs.
    """

    dag_id: str
    run_id: str
    airflow: DagRunState
    runs: Mapping[Instance, StepRun]
    instances: Mapping[Instance, InstanceState]
    batched: frozenset[str] = frozenset()

    @classmethod
    def read(
        cls, opened: OpenedStack, dag_id: str, run_id: str, access: Access, task_id: str = ""
    ) -> RunSnapshot | None:
        """Read a DAG run, or one task of it; None where neither Airflow nor the store has it."""
        airflow = read_dag_run(dag_id, run_id, [task_id] if task_id else ())
        found = cls.of(opened.dag_run(dag_id, run_id, task_id), airflow, access)
        return found if found.runs or airflow.state else None

    @classmethod
    def of(cls, records: DagRunRecords, airflow: DagRunState, access: Access) -> RunSnapshot:
        """Return a DAG run of its records and of what Airflow knows; that may be of some of its tasks only."""
        dag_id, run_id = records.dag_id, records.run_id
        runs = {(run.id.task_id, run.id.map_index): visible_run(run, access) for run in records.latest}
        instances = with_substeps(dag_id, airflow.instances, {key: run.id.try_number for key, run in runs.items()})
        recorded = {task for task, _ in runs}
        hidden = recorded | set(map(group_of, recorded))
        known = {
            (each.task_id, each.map_index): each
            for each in instances
            if (each.is_step or each.task_id in recorded)
            and not ((each.is_batch or each.is_group) and each.task_id in hidden)
        }
        batched = frozenset(each.task_id for each in airflow.instances if each.is_batch)
        return cls(dag_id, run_id, airflow, runs, known, batched)

    def tasks(self) -> Mapping[str, list[Instance]]:
        """Return the task instances by task: those that began first come first, those that have not come last."""
        found: dict[str, list[Instance]] = defaultdict(list)
        for instance in sorted({*self.runs, *self.instances}, key=lambda each: (self.started(each), each)):
            found[instance[0]].append(instance)
        return found

    def state(self, instance: Instance) -> str:
        """Return the state of a task instance."""
        return state_of(self.runs.get(instance), self.instances.get(instance))

    def started(self, instance: Instance) -> float:
        """Return when a task instance began; infinity where it has not."""
        run, known = self.runs.get(instance), self.instances.get(instance)
        started = run.started if run else known.started if known else None
        return float("inf") if started is None else started


def worst_state(states: Iterable[str]) -> str:
    """Return the state that stands for several: a failure first, then what runs, then what waits."""
    found = set(states)
    return next(
        (state for state in (*_BY_SEVERITY, *sorted(found - {"FINISHED", CACHED})) if state in found),
        "FINISHED" if "FINISHED" in found else CACHED,
    )


def run_page(
    opened: OpenedStack, dag_id: str, run_id: str, access: Access, expand: Collection[str] = ()
) -> RunPage | None:
    """Return the page of a DAG run; None where there is no such run. expand: tasks whose instances are shown singly."""
    snapshot = RunSnapshot.read(opened, dag_id, run_id, access)
    if snapshot is None:
        return None
    links = dag_run_links(opened, dag_id, run_id)
    graph = _build_graph(snapshot, expand, links)
    airflow, ends = snapshot.airflow, [run.end_time for run in snapshot.runs.values()]
    return RunPage(
        dag_id=dag_id,
        run_id=run_id,
        state=airflow.state,
        live=airflow.is_live,
        started=airflow.started or min((run.started for run in snapshot.runs.values()), default=None),
        ended=airflow.ended or (None if airflow.is_live else max(ends, default=None)),
        totals=Totals.model_validate(totals_of_dag_run(dag_id, run_id, snapshot.runs.values())),
        steps=[_task_row(snapshot, instances, access) for instances in snapshot.tasks().values()],
        nodes=[_graph_node(node, snapshot, access) for node in graph.nodes],
        edges=[*_data_edges(graph), *_order_edges(graph, snapshot)],
        mlflow_url=links.parent_url,
    )


def step_row(run: StepRun, access: Access, state: str) -> StepRow:
    """Return the row of one step run in the table of steps."""
    outputs = output_facts(run, access)
    return StepRow(
        task_id=run.id.task_id,
        state=state,
        cache=str(run.cache),
        why=shorten(run.why),
        error=shorten(run.error),
        started=run.started,
        ended=run.ended,
        seconds=seconds_of(run),
        seconds_saved=run.seconds_saved,
        try_number=run.id.try_number,
        origin=key_of_origin(run.origin, access),
        outputs=outputs[:_MAX_OUTPUTS],
        resources=resources_of(run),
    )


def _task_row(snapshot: RunSnapshot, instances: Sequence[Instance], access: Access) -> StepRow:
    """Return the row of a task: of its only instance, or of all together."""
    first = instances[0]
    states = Counter(map(snapshot.state, instances))
    return _mapped_row(snapshot, instances, states) if first[1] >= 0 else instance_row(snapshot, first, access)


def instance_row(snapshot: RunSnapshot, instance: Instance, access: Access) -> StepRow:
    """Return the row of one task instance; without a record, what Airflow knows of it."""
    if run := snapshot.runs.get(instance):
        return step_row(run, access, snapshot.state(instance))
    known = snapshot.instances[instance]
    return StepRow(
        task_id=instance[0],
        state=snapshot.state(instance),
        started=known.started,
        ended=known.ended,
        try_number=known.try_number,
    )


def _mapped_row(snapshot: RunSnapshot, instances: Sequence[Instance], states: Counter[str]) -> StepRow:
    runs = [snapshot.runs[each] for each in instances if each in snapshot.runs]
    caches, errors = {str(run.cache) for run in runs}, [run.error for run in runs if run.error]
    has_ended = len(runs) == len(instances) and all(run.ended is not None for run in runs)
    return StepRow(
        task_id=instances[0][0],
        state=worst_state(states),
        mapped=True,
        in_batches=instances[0][0] in snapshot.batched,
        count=len(instances),
        states=dict(states),
        cache=caches.pop() if len(caches) == 1 else "",
        why=shorten(", ".join(sorted({run.why for run in runs if run.why})), 500),
        error=shorten(errors[0]) if errors else "",
        started=min((run.started for run in runs), default=None),
        ended=max(run.end_time for run in runs) if has_ended else None,
        seconds=sum(seconds_of(run) or 0.0 for run in runs),
        seconds_saved=sum(run.seconds_saved for run in runs),
        resources=_summed_resources(runs),
    )


def _summed_resources(runs: Sequence[StepRun]) -> dict[str, float]:
    """Return the resources of several step runs: the largest of each amount of memory, and the sum of all else."""
    used = [resources_of(run) for run in runs]
    names = dict.fromkeys(name for each in used for name in each)
    return {name: (max if "memory" in name else sum)(each.get(name, 0.0) for each in used) for name in names}


def _build_graph(snapshot: RunSnapshot, expand: Collection[str], links: PageUrls) -> Graph:
    """Return the lineage graph, with a step that has no record yet as one that runs and has read nothing so far."""
    waiting = [
        StepRun(
            StepRunId(snapshot.dag_id, snapshot.run_id, *instance),
            StepState.RUNNING,
            started=min(snapshot.started(instance), _NOT_STARTED),
        )
        for instance in snapshot.instances
        if instance not in snapshot.runs
    ]
    runs = [*snapshot.runs.values(), *waiting]
    return build_graph(snapshot.dag_id, snapshot.run_id, runs, links, COLLAPSE_ABOVE, expand)


def _graph_node(node: Node, snapshot: RunSnapshot, access: Access) -> GraphNode:
    task_id = node.facts.get("task", "") if node.kind is NodeKind.STEP else ""
    instances = _instances_of(node, task_id, snapshot)
    states = Counter(map(snapshot.state, instances))
    runs = [snapshot.runs[each] for each in instances if each in snapshot.runs]
    state = worst_state(states) if task_id else ""
    is_timed = node.count > 1 or state in _ENDED_STATES
    return GraphNode(
        id=node.id,
        kind=str(node.kind),
        label=node.label,
        state=state,
        count=node.count,
        states=dict(states) if node.count > 1 else {},
        facts=_visible_facts(node, access) if runs or not task_id else {"task": task_id},
        task_id=task_id,
        map_index=instances[0][1] if len(instances) == 1 else -1,
        name=node.facts.get("name", ""),
        digest=node.facts.get("digest", ""),
        started=min((run.started for run in runs), default=None),
        ended=node.ended,
        seconds=sum(seconds_of(run) or 0.0 for run in runs) if runs and is_timed else None,
        size=node.size,
        can_expand=bool(task_id) and node.count > 1,
        url=node.url if runs or not task_id else "",
    )


def _visible_facts(node: Node, access: Access) -> dict[str, str]:
    """Return the facts of a node that have no field: of an artifact that the user may not read, not where it is and who made it."""
    origin = node.facts.get("made by", "")
    hidden = ("address", "made by") if origin and not access.may_read_origin(origin) else ()
    return {name: text for name, text in node.facts.items() if name not in (*hidden, *_FACTS_WITH_FIELDS)}


def _instances_of(node: Node, task_id: str, snapshot: RunSnapshot) -> list[Instance]:
    if not task_id:
        return []
    if node.count > 1:
        return [each for each in {**snapshot.runs, **snapshot.instances} if each[0] == task_id]
    return [(task_id, int(node.facts.get("map index") or -1))]


def _data_edges(graph: Graph) -> Iterator[GraphEdge]:
    return (GraphEdge(source=edge.source, target=edge.target, label=edge.label) for edge in graph.edges)


def _order_edges(graph: Graph, snapshot: RunSnapshot) -> Iterator[GraphEdge]:
    """Yield the order of steps before each that has no record yet."""
    recorded = {task for task, _ in snapshot.runs}
    waiting = {task for task, _ in snapshot.instances} - recorded
    if not waiting:
        return
    nodes: dict[str, list[str]] = defaultdict(list)
    for node in graph.steps:
        nodes[node.facts.get("task", "")].append(node.id)
    for task_id, upstream in _steps_before(read_tasks(snapshot.dag_id), nodes).items():
        if task_id in waiting:
            sources = [source for before in upstream for source in nodes.get(before, ())]
            for target in nodes[task_id] if len(sources) <= _MAX_ORDER_EDGES else ():
                yield from (GraphEdge(source=source, target=target, kind="order") for source in sources)


def _steps_before(tasks: Mapping[str, Any], shown: Collection[str]) -> Mapping[str, Sequence[str]]:
    """Return the steps before each step; a fused group that is shown as its steps begins with the first, and ends with the last."""
    found: dict[str, Sequence[str]] = {}
    groups = {
        task_id: [f"{task_id}.{name}" for name in getattr(task, "step_names", ())] or [task_id]
        for task_id, task in tasks.items()
    }
    for task_id, task in tasks.items():
        steps = [task_id] if task_id in shown else groups[task_id]
        before = [each if each in shown else groups[each][-1] for each in sorted(task.upstream_task_ids)]
        found |= {steps[0]: before, **{step: [previous] for previous, step in pairwise(steps)}}
    return found
