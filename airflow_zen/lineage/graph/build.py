"""Make the graph of a DAG run from its step run records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.graph.model import Edge, Graph, Node
from airflow_zen.lineage.graph.nodes import artifact_node, collapsed_artifacts_node, collapsed_steps_node, step_node
from airflow_zen.lineage.pages import PageUrls
from airflow_zen.lineage.step_run import StepRun

ArtifactKey = tuple[str, str]


@dataclass
class _ArtifactFlow:
    """An artifact while the graph is made: its ref, and the step nodes it comes from and goes to."""

    ref: ArtifactRef
    sources: dict[str, str] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)


def build_graph(dag_id: str, run_id: str, runs: Iterable[StepRun], pages: PageUrls, collapse_above: int) -> Graph:
    """Give the lineage graph; of a task that was tried again the last try counts.

    collapse_above: mapped runs of one task, and artifacts that come from and go to the same steps, are shown
    as one node where there are more than this many.
    """
    steps, node_ids = _step_nodes(_last_tries(runs), pages, collapse_above)
    artifacts, edges = _artifact_nodes(_artifact_flows(node_ids), dag_id, pages, collapse_above)
    return Graph(dag_id, run_id, (*steps, *artifacts), tuple(edges))


def _last_tries(runs: Iterable[StepRun]) -> list[StepRun]:
    last: dict[tuple[str, int], StepRun] = {}
    for run in runs:
        place = run.id.task_id, run.id.map_index
        if place not in last or last[place].id.try_number < run.id.try_number:
            last[place] = run
    return sorted(last.values(), key=lambda run: (run.started, run.id.task_id, run.id.map_index))


def _step_nodes(
    runs: Sequence[StepRun], pages: PageUrls, collapse_above: int
) -> tuple[list[Node], list[tuple[StepRun, str]]]:
    """Give the step nodes, and for every run the id of the node that shows it."""
    tasks: dict[str, list[StepRun]] = defaultdict(list)
    for run in runs:
        tasks[run.id.task_id].append(run)
    nodes: list[Node] = []
    node_ids: list[tuple[StepRun, str]] = []
    for group in tasks.values():
        made = (
            [collapsed_steps_node(group, pages)]
            if len(group) > collapse_above
            else [step_node(run, pages) for run in group]
        )
        nodes += made
        node_ids += [(run, made[min(place, len(made) - 1)].id) for place, run in enumerate(group)]
    return nodes, node_ids


def _artifact_flows(node_ids: Sequence[tuple[StepRun, str]]) -> dict[ArtifactKey, _ArtifactFlow]:
    """Follow every artifact: an artifact is its name and its content."""
    found: dict[ArtifactKey, _ArtifactFlow] = {}
    for run, node in node_ids:
        for output, ref in run.outputs.items():
            name = ref.name or f"{run.id.dag_id}/{run.id.task_id}.{output}"
            found.setdefault((name, ref.digest), _ArtifactFlow(ref.with_name(name))).sources.setdefault(node, output)
    for run, node in node_ids:
        for argument, ref in run.inputs.items():
            name = ref.name or argument
            found.setdefault((name, ref.digest), _ArtifactFlow(ref.with_name(name))).targets.setdefault(node, argument)
    return found


def _artifact_nodes(
    found: Mapping[ArtifactKey, _ArtifactFlow], dag_id: str, pages: PageUrls, collapse_above: int
) -> tuple[list[Node], list[Edge]]:
    """Give a node to each artifact, or to all that take the same way where they are many."""
    groups: dict[tuple[frozenset[str], frozenset[str]], list[_ArtifactFlow]] = defaultdict(list)
    for artifact in found.values():
        groups[frozenset(artifact.sources), frozenset(artifact.targets)].append(artifact)
    nodes: list[Node] = []
    edges: list[Edge] = []
    for group in groups.values():
        if len(group) > collapse_above:
            made = [(collapsed_artifacts_node([artifact.ref for artifact in group], dag_id), group[0])]
        else:
            made = [(artifact_node(each.ref, dag_id, bool(each.sources), pages), each) for each in group]
        for node, artifact in made:
            nodes.append(node)
            edges += [Edge(step, node.id, output) for step, output in artifact.sources.items()]
            edges += [Edge(node.id, step, argument) for step, argument in artifact.targets.items()]
    return nodes, edges
