"""The graph as Markdown: a table of linked steps, one of artifacts, and a diagram for viewers that know Mermaid."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from airflow_zen.lineage.graph.model import Graph, Node, NodeKind
from airflow_zen.lineage.graph.text import cell
from airflow_zen.lineage.limits import CUT

# A diagram of more nodes is no longer drawn by common viewers.
_MOST_DRAWN = 250

_NOT_IN_A_DIAGRAM = re.compile(r"[^\w.\-/ \[\]×=,:·]")


def markdown(graph: Graph) -> str:
    """Write the whole graph."""
    title = f"# Lineage of {cell(graph.dag_id)}\n\nDAG run {cell(graph.run_id)}"
    artifacts = [f"| {' | '.join(_artifact(node))} |" for node in graph.artifacts]
    listed = "\n".join(["| artifact | from | type | shape | digest |", "|---|---|---|---|---|", *artifacts])
    return f"{title}\n\n{steps_table(graph)}\n\n## Artifacts\n\n{listed}\n\n{_diagram(graph)}\n"


def steps_table(graph: Graph, room: int | None = None) -> str:
    """Write a table of the steps, each linked to its run; one that exceeds `room` characters says what it left out."""
    reads, makes = _neighbours(graph)
    rows = [_step(node, reads[node.id], makes[node.id]) for node in graph.steps]
    head = ["| step | state | reads | makes |", "|---|---|---|---|"]
    kept = rows if room is None else _kept(rows, room - sum(map(len, head)) - 80)
    left = len(rows) - len(kept)
    rest = [f"| {CUT} {left} more, in `lineage/lineage.md` | | | |"] if left else []
    return "\n".join([*head, *kept, *rest])


def _kept(rows: Sequence[str], room: int) -> list[str]:
    kept: list[str] = []
    for row in rows:
        room -= len(row) + 1
        if room < 0:
            break
        kept.append(row)
    return kept


def _step(node: Node, reads: Sequence[str], makes: Sequence[str]) -> str:
    name = cell(node.label)
    linked = f"[{name}]({node.url})" if node.url else name
    return f"| {linked} | {cell(node.detail)} | {_some(reads)} | {_some(makes)} |"


def _some(labels: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(cell(label) for label in labels[:most])
    return f"{shown} {CUT} {len(labels) - most} more" if len(labels) > most else shown


def _artifact(node: Node) -> Iterable[str]:
    facts = node.facts
    name = f"{cell(node.label)}{' (model)' if node.kind is NodeKind.MODEL else ''}"
    digest = facts.get("digest", "")
    yield f"[{name}]({node.url})" if node.url else name
    for fact in ("from", "type", "shape"):
        yield cell(facts.get(fact, ""))
    yield f"`{digest}`" if digest else cell(facts.get("digests", ""))


def _neighbours(graph: Graph) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
    label = {node.id: node.label for node in graph.nodes}
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        before[edge.target].append(label[edge.source])
        after[edge.source].append(label[edge.target])
    return before, after


def _diagram(graph: Graph) -> str:
    if len(graph.nodes) > _MOST_DRAWN:
        return f"{CUT} The diagram of {len(graph.nodes)} nodes is in `lineage/lineage.html`."
    names = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    boxes = [f"  {names[node.id]}{_box(node)}" for node in graph.nodes]
    arrows = [f"  {names[edge.source]} --> {names[edge.target]}" for edge in graph.edges]
    return "\n".join(["```mermaid", "flowchart TD", *boxes, *arrows, "```"])


def _box(node: Node) -> str:
    left, right = {NodeKind.STEP: ("[", "]"), NodeKind.MODEL: ("{{", "}}")}.get(node.kind, ("([", "])"))
    return f'{left}"{_NOT_IN_A_DIAGRAM.sub("_", node.label)}"{right}'
