"""Make the graph of a DAG run from its step run records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.graph.model import Edge, Graph, Node
from airflow_zen.lineage.graph.nodes import artifact_node, artifacts_node, step_node, steps_node
from airflow_zen.lineage.pages import Pages
from airflow_zen.lineage.step_run import StepRun

ArtifactKey = tuple[str, str]


@dataclass
class _Artifact:
    """An artifact while the graph is made: its ref, and the step nodes it comes from and goes to."""

    ref: ArtifactRef
    sources: dict[str, str] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)


def graph_of(dag_id: str, run_id: str, runs: Iterable[StepRun], pages: Pages, together: int) -> Graph:
    """Give the lineage graph; of a task that was tried again the last try counts.

    together: mapped runs of one task, and artifacts that come from and go to the same steps, are shown
    as one node where there are more than this many.
    """
    steps, homes = _steps(_last_tries(runs), pages, together)
    artifacts, edges = _gathered(_flows(homes), dag_id, pages, together)
    return Graph(dag_id, run_id, (*steps, *artifacts), tuple(edges))


def _last_tries(runs: Iterable[StepRun]) -> list[StepRun]:
    last: dict[tuple[str, int], StepRun] = {}
    for run in runs:
        place = run.id.task_id, run.id.map_index
        if place not in last or last[place].id.try_number < run.id.try_number:
            last[place] = run
    return sorted(last.values(), key=lambda run: (run.started, run.id.task_id, run.id.map_index))


def _steps(runs: Sequence[StepRun], pages: Pages, together: int) -> tuple[list[Node], list[tuple[StepRun, str]]]:
    """Give the step nodes, and for every run the id of the node that shows it."""
    tasks: dict[str, list[StepRun]] = defaultdict(list)
    for run in runs:
        tasks[run.id.task_id].append(run)
    nodes: list[Node] = []
    homes: list[tuple[StepRun, str]] = []
    for alike in tasks.values():
        made = [steps_node(alike, pages)] if len(alike) > together else [step_node(run, pages) for run in alike]
        nodes += made
        homes += [(run, made[min(place, len(made) - 1)].id) for place, run in enumerate(alike)]
    return nodes, homes


def _flows(homes: Sequence[tuple[StepRun, str]]) -> dict[ArtifactKey, _Artifact]:
    """Follow every artifact: an artifact is its name and its content."""
    found: dict[ArtifactKey, _Artifact] = {}
    for run, node in homes:
        for output, ref in run.outputs.items():
            name = ref.name or f"{run.id.dag_id}/{run.id.task_id}.{output}"
            found.setdefault((name, ref.digest), _Artifact(ref.named(name))).sources.setdefault(node, output)
    for run, node in homes:
        for argument, ref in run.inputs.items():
            name = ref.name or argument
            found.setdefault((name, ref.digest), _Artifact(ref.named(name))).targets.setdefault(node, argument)
    return found


def _gathered(
    found: Mapping[ArtifactKey, _Artifact], dag_id: str, pages: Pages, together: int
) -> tuple[list[Node], list[Edge]]:
    """Give a node to each artifact, or to all that take the same way where they are many."""
    ways: dict[tuple[frozenset[str], frozenset[str]], list[_Artifact]] = defaultdict(list)
    for artifact in found.values():
        ways[frozenset(artifact.sources), frozenset(artifact.targets)].append(artifact)
    nodes: list[Node] = []
    edges: list[Edge] = []
    for alike in ways.values():
        if len(alike) > together:
            made = [(artifacts_node([artifact.ref for artifact in alike], dag_id), alike[0])]
        else:
            made = [(artifact_node(each.ref, dag_id, bool(each.sources), pages), each) for each in alike]
        for node, artifact in made:
            nodes.append(node)
            edges += [Edge(step, node.id, output) for step, output in artifact.sources.items()]
            edges += [Edge(node.id, step, argument) for step, argument in artifact.targets.items()]
    return nodes, edges
