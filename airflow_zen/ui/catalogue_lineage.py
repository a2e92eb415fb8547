"""The lineage graph of the catalogue: the step runs of several DAGs, and the artifacts between them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from airflow_zen.lineage.found_runs import FoundArtifact, FoundRun
from airflow_zen.lineage.graph.model import CACHED
from airflow_zen.ui.facts import shorten
from airflow_zen.ui.responses import GraphEdge, GraphNode
from airflow_zen.ui.run_page import COLLAPSE_ABOVE, worst_state

_Item = TypeVar("_Item")


@dataclass
class _Flow:
    """The nodes of the steps that made an artifact, and of those that read it."""

    sources: dict[str, None] = field(default_factory=dict)
    targets: dict[str, None] = field(default_factory=dict)


def lineage_graph(runs: Iterable[FoundRun], subject: FoundArtifact) -> tuple[list[GraphNode], list[GraphEdge]]:
    """Return the nodes of step runs and of the artifacts that they read or made, and the flow between them.

    More than three runs of a task in a DAG run are one node, and so are more than three artifacts between the same
    steps, except `subject`, the artifact whose lineage it is.
    """
    nodes: list[GraphNode] = []
    flows: dict[FoundArtifact, _Flow] = defaultdict(_Flow)
    for group in _groups(runs):
        nodes.append(_step_node(group))
        for run in group:
            for artifact in run.inputs:
                flows[artifact].targets[nodes[-1].id] = None
            for artifact in run.outputs:
                flows[artifact].sources[nodes[-1].id] = None
    edges: list[GraphEdge] = []
    for artifacts in _similar(flows, subject):
        node, flow = _artifact_node(artifacts), flows[artifacts[0]]
        nodes.append(node)
        edges += [GraphEdge(source=step, target=node.id) for step in flow.sources]
        edges += [GraphEdge(source=node.id, target=step) for step in flow.targets]
    return nodes, edges


def _groups(runs: Iterable[FoundRun]) -> Iterator[list[FoundRun]]:
    """Yield the runs of each node: all of a task in a DAG run where they are many, else one."""
    tasks: dict[tuple[str, str, str], dict[int, FoundRun]] = defaultdict(dict)
    for run in runs:
        # MLflow, which may have found it too, keeps milliseconds.
        tasks[run.dag_id, run.dag_run_id, run.task_id].setdefault(round(run.started * 1000), run)
    for instances in tasks.values():
        yield from _folded([*instances.values()])


def _similar(flows: dict[FoundArtifact, _Flow], subject: FoundArtifact) -> Iterator[list[FoundArtifact]]:
    """Yield the artifacts of each node: all between the same steps where they are many, else one."""
    groups: dict[tuple[bool, frozenset[str], frozenset[str]], list[FoundArtifact]] = defaultdict(list)
    for artifact, flow in flows.items():
        groups[artifact == subject, frozenset(flow.sources), frozenset(flow.targets)].append(artifact)
    for group in groups.values():
        yield from _folded(group)


def _folded(items: list[_Item]) -> list[list[_Item]]:
    return [items] if len(items) > COLLAPSE_ABOVE else [[each] for each in items]


def _step_node(runs: Sequence[FoundRun]) -> GraphNode:
    first, count = runs[0], len(runs)
    states = Counter(CACHED if run.cached else run.state for run in runs)
    where = f"{first.dag_id}/{first.dag_run_id}/{first.task_id}"
    times = [run.ended - run.started for run in runs if run.ended is not None]
    return GraphNode(
        id=f"run:{where}/{round(first.started * 1000)}" if count == 1 else f"runs:{where}",
        kind="step",
        label=first.name.removesuffix(" (cached)") or first.task_id if count == 1 else f"{first.task_id} × {count}",
        detail=first.dag_id,
        state=worst_state(states),
        count=count,
        states=dict(states) if count > 1 else {},
        facts={"dag": first.dag_id, "run": first.dag_run_id},
        task_id=first.task_id,
        started=min(run.started for run in runs),
        ended=max((run.ended for run in runs if run.ended is not None), default=None),
        seconds=sum(times) if times else None,
    )


def _artifact_node(artifacts: Sequence[FoundArtifact]) -> GraphNode:
    first, count = artifacts[0], len(artifacts)
    where = f"{first.name}@{first.digest}"
    if count == 1:
        facts = {"name": first.name, "digest": first.digest}
        return GraphNode(
            id=f"artifact:{where}", kind="artifact", label=first.name, facts=facts, name=first.name, digest=first.digest
        )
    names = sorted({each.name for each in artifacts})
    label = f"{first.name} × {count}" if len(names) == 1 else f"{count} artifacts"
    facts = {"names": shorten(", ".join(names), 2000)}
    return GraphNode(id=f"artifacts:{where}", kind="artifact", label=label, count=count, facts=facts)
