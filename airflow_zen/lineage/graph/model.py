"""The lineage graph of a DAG run: its steps and artifacts, and the flow between them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import msgspec

from airflow_zen.lineage.mlflow.datasets import is_mlflow_model
from airflow_zen.lineage.mlflow.encoding import short_digest, shorten
from airflow_zen.lineage.mlflow.tags import run_name
from airflow_zen.lineage.savings import last_tries
from airflow_zen.markup import format_bytes

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.description import PageUrls
    from airflow_zen.runs.step_run import StepRun


class NodeKind(StrEnum):
    """What a node stands for."""

    STEP = "step"
    ARTIFACT = "artifact"
    MODEL = "model"


class Node(msgspec.Struct, frozen=True):
    """One step or one artifact, or `count` similar ones that are shown as one.

    `state` is a step's status in MLflow, or `CACHED`; artifacts have none. `facts` are details for the reader, in
    order. `url` is the page in MLflow. Times are seconds since the epoch. `size` is that of artifacts together, in bytes.
    """

    id: str
    kind: NodeKind
    label: str
    detail: str = ""
    state: str = ""
    count: int = 1
    facts: Mapping[str, str] = msgspec.field(default_factory=dict)
    url: str = ""
    started: float | None = None
    ended: float | None = None
    size: int | None = None


class Edge(msgspec.Struct, frozen=True):
    """A flow from one node to another; `label` is the name of the argument or of the output."""

    source: str
    target: str
    label: str = ""


class Graph(msgspec.Struct, frozen=True):
    """The lineage of one DAG run; its edges name nodes by id, and contain no cycle."""

    dag_id: str
    run_id: str
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()

    @property
    def steps(self) -> tuple[Node, ...]:
        """The nodes that are steps."""
        return tuple(node for node in self.nodes if node.kind is NodeKind.STEP)

    @property
    def artifacts(self) -> tuple[Node, ...]:
        """The nodes that are artifacts, models among them."""
        return tuple(node for node in self.nodes if node.kind is not NodeKind.STEP)

    def edges_by(self, end: Literal["source", "target"]) -> Mapping[str, list[Edge]]:
        """Return the edges by the id of the node at that end."""
        found: dict[str, list[Edge]] = defaultdict(list)
        for edge in self.edges:
            found[getattr(edge, end)].append(edge)
        return found


CACHED = "CACHED"
# The worst state stands for a group.
_STATES_BY_SEVERITY = ("FAILED", "KILLED", "RUNNING", "FINISHED", CACHED)
_MAX_FACT = 2000


class _ArtifactFlow(msgspec.Struct):
    """An artifact with the step nodes that made it and that read it, by id; the values are outputs and arguments.

    `earlier` marks an artifact that an earlier DAG run made. It is distinct from one of the same name and content that
    this DAG run made.
    """

    ref: ArtifactRef
    earlier: bool = False
    sources: dict[str, str] = msgspec.field(default_factory=dict)
    targets: dict[str, str] = msgspec.field(default_factory=dict)


def build_graph(
    dag_id: str,
    run_id: str,
    runs: Iterable[StepRun],
    pages: PageUrls,
    collapse_above: int,
    expanded: Collection[str] = (),
) -> Graph:
    """Return the lineage graph; of the tries of a task the last one counts.

    collapse_above: more mapped runs of one task than this, and more artifacts than this that come from and go to the
    same steps, are shown as one node. expanded: the tasks whose mapped runs are shown one by one all the same.
    """
    steps, node_ids = _step_nodes(runs, pages, collapse_above, expanded)
    flows = _without_cycles(_artifact_flows(node_ids), node_ids)
    artifacts, edges = _artifact_nodes(flows, dag_id, pages, collapse_above)
    return Graph(dag_id, run_id, (*steps, *artifacts), tuple(edges))


def _step_nodes(
    runs: Iterable[StepRun], pages: PageUrls, collapse_above: int, expanded: Collection[str]
) -> tuple[list[Node], list[tuple[StepRun, str]]]:
    """Return the step nodes, and every run with the id of the node that shows it."""
    tasks: dict[str, list[StepRun]] = defaultdict(list)
    for run in sorted(last_tries(runs), key=lambda run: (run.started, run.id.task_id, run.id.map_index)):
        tasks[run.id.task_id].append(run)
    nodes: list[Node] = []
    node_ids: list[tuple[StepRun, str]] = []
    for task_id, group in tasks.items():
        is_collapsed = len(group) > collapse_above and task_id not in expanded
        for part in [group] if is_collapsed else [[run] for run in group]:
            nodes.append(_step_node(part[0], pages) if len(part) == 1 else _collapsed_steps_node(part, pages))
            node_ids += [(run, nodes[-1].id) for run in part]
    return nodes, node_ids


def _artifact_flows(node_ids: Sequence[tuple[StepRun, str]]) -> Collection[_ArtifactFlow]:
    """Return the flow of every artifact; an artifact is identified by its name and its content."""
    found: dict[tuple[str, str], _ArtifactFlow] = {}

    def flow_of(ref: ArtifactRef, default_name: str) -> _ArtifactFlow:
        name = ref.name or default_name
        return found.setdefault((name, ref.digest), _ArtifactFlow(ref.with_name(name)))

    for run, node in node_ids:
        for output, ref in run.outputs.items():
            flow_of(ref, f"{run.id.dag_id}/{run.id.task_id}.{output}").sources.setdefault(node, output)
    for run, node in node_ids:
        for argument, ref in run.inputs.items():
            flow_of(ref, argument).targets.setdefault(node, argument)
    return found.values()


def _without_cycles(
    flows: Collection[_ArtifactFlow], node_ids: Sequence[tuple[StepRun, str]]
) -> Collection[_ArtifactFlow]:
    """Split each artifact that a step both reads and makes, so that the graph has no cycle.

    The artifact that is read is attributed to an earlier DAG run. In a longer cycle, the step that started first is the
    reader.
    """
    shown, earlier = [*flows], dict[int, _ArtifactFlow]()
    started: dict[str, float] = {}
    for run, node in node_ids:
        started[node] = min(run.started, started.get(node, run.started))

    def separate(number: int, step: str) -> None:
        flow = earlier.setdefault(number, _ArtifactFlow(shown[number].ref, earlier=True))
        flow.targets[step] = shown[number].targets.pop(step)

    for number, flow in enumerate(shown):
        for step in flow.sources.keys() & flow.targets.keys():
            separate(number, step)
    while cycle := _find_cycle(shown):
        first, read = min(cycle, key=lambda step: started[step[0]])
        separate(read, first)
    return [*shown, *earlier.values()]


def _find_cycle(flows: Sequence[_ArtifactFlow]) -> list[tuple[str, int]]:
    """Return each step of one cycle with the number of the flow that it reads there; empty if there is no cycle."""
    order: TopologicalSorter[str | int] = TopologicalSorter()
    for number, flow in enumerate(flows):
        order.add(number, *flow.sources)
        for step in flow.targets:
            order.add(step, number)
    try:
        order.prepare()
    except CycleError as error:
        return [(step, read) for read, step in pairwise(error.args[1]) if isinstance(read, int)]
    return []


def _artifact_nodes(
    flows: Iterable[_ArtifactFlow], dag_id: str, pages: PageUrls, collapse_above: int
) -> tuple[list[Node], list[Edge]]:
    """Return a node for each artifact, or one for all with the same sources and targets where they are many."""
    groups: dict[tuple[frozenset[str], frozenset[str]], list[_ArtifactFlow]] = defaultdict(list)
    for flow in flows:
        groups[frozenset(flow.sources), frozenset(flow.targets)].append(flow)
    shown: list[tuple[Node, _ArtifactFlow]] = []
    for group in groups.values():
        if len(group) > collapse_above:
            shown.append((_collapsed_artifacts_node(group, dag_id), group[0]))
        else:
            shown += [(_artifact_node(flow, dag_id, pages), flow) for flow in group]
    edges: list[Edge] = []
    for node, flow in shown:
        edges += [Edge(step, node.id, output) for step, output in flow.sources.items()]
        edges += [Edge(node.id, step, argument) for step, argument in flow.targets.items()]
    return [node for node, _ in shown], edges


def _step_node(run: StepRun, pages: PageUrls) -> Node:
    facts = {
        "task": run.id.task_id,
        "map index": str(run.id.map_index) if run.id.map_index >= 0 else "",
        "state": str(run.state),
        "try": str(run.id.try_number),
        "time": _duration_text(run),
        "cache": str(run.cache),
        "why": run.why,
        "made by": run.origin,
        "error": run.error,
        **{
            f"parameter {name}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            for name, value in run.parameters.items()
        },
        "version": run.code_version,
        "log": run.log_url,
    }
    return Node(
        id=f"step:{run.id.task_id}:{run.id.map_index}",
        kind=NodeKind.STEP,
        label=run_name(run).removesuffix(" (cached)"),
        detail=f"{displayed_state(run).lower()} · {_duration_text(run)}",
        state=displayed_state(run),
        facts=_nonempty_facts(facts),
        url=pages.step_url(run.id),
        started=run.started,
        ended=run.ended,
    )


def _collapsed_steps_node(runs: Sequence[StepRun], pages: PageUrls) -> Node:
    states = Counter(map(displayed_state, runs))
    counts = " · ".join(f"{states[state]} {state.lower()}" for state in _STATES_BY_SEVERITY if states[state])
    task, seconds = runs[0].id.task_id, sum(run.end_time - run.started for run in runs)
    facts = {"task": task, "mapped": str(len(runs)), "states": counts, "time": f"{seconds:.1f} s in all"}
    return Node(
        id=f"steps:{task}",
        kind=NodeKind.STEP,
        label=f"{task} × {len(runs)}",
        detail=counts,
        state=next(state for state in _STATES_BY_SEVERITY if states[state]),
        count=len(runs),
        facts=facts,
        url=pages.task_url(runs[0].id),
        started=min(run.started for run in runs),
        ended=max((run.ended for run in runs if run.ended is not None), default=None),
    )


def _artifact_node(flow: _ArtifactFlow, dag_id: str, pages: PageUrls) -> Node:
    ref = flow.ref
    facts = {
        "name": ref.name,
        "from": "" if flow.sources else _producer_text(ref, dag_id),
        "type": ref.type,
        "shape": ref.shape,
        "size": format_bytes(ref.size),
        "encoding": ref.encoding,
        "digest": ref.digest,
        "address": ref.uri,
        "made by": ref.origin,
    }
    what = ref.shape.replace(" rows", "").replace(" columns", "") or ref.type.rpartition(".")[2]
    return Node(
        id=f"artifact:{ref.name}@{ref.digest}{' (earlier)' if flow.earlier else ''}",
        kind=NodeKind.MODEL if is_mlflow_model(ref) else NodeKind.ARTIFACT,
        label=ref.name.removeprefix(f"{dag_id}/"),
        detail=f"{what} · {short_digest(ref.digest)[:8]}",
        facts=_nonempty_facts(facts),
        url=pages.artifact_url(ref),
        size=ref.size,
    )


def _collapsed_artifacts_node(flows: Sequence[_ArtifactFlow], dag_id: str) -> Node:
    refs = [flow.ref for flow in flows]
    names = sorted({ref.name.removeprefix(f"{dag_id}/") for ref in refs})
    total = sum(ref.size for ref in refs)
    size = format_bytes(total)
    digests = "".join(sorted(ref.digest for ref in refs))
    facts = {
        "names": ", ".join(names),
        "types": ", ".join(sorted({ref.type for ref in refs})),
        "size": f"{size} in all",
        "digests": " ".join(short_digest(ref.digest) for ref in refs),
    }
    return Node(
        id=f"artifacts:{hashlib.sha256(digests.encode()).hexdigest()[:16]}{' (earlier)' if flows[0].earlier else ''}",
        kind=NodeKind.MODEL if all(map(is_mlflow_model, refs)) else NodeKind.ARTIFACT,
        label=f"{names[0]} × {len(refs)}" if len(names) == 1 else f"{len(refs)} artifacts",
        detail=f"{len({ref.digest for ref in refs})} contents · {size}",
        count=len(refs),
        facts=_nonempty_facts(facts),
        size=total,
    )


def _producer_text(ref: ArtifactRef, dag_id: str) -> str:
    producer = ref.name.partition("/")[0] if "/" in ref.name else ""
    if producer == dag_id:
        return "an earlier run of this DAG"
    return f"DAG {producer}" if producer else "outside this DAG run"


def displayed_state(run: StepRun) -> str:
    """Return the state of a step run as graphs show it: its own, or `CACHED`."""
    return CACHED if run.is_hit else str(run.state)


def _duration_text(run: StepRun) -> str:
    seconds = run.end_time - run.started
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _nonempty_facts(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: shorten(text, _MAX_FACT) for name, text in facts.items() if text}
