"""The graph as Markdown: a table of linked steps, one of artifacts, and a diagram for viewers that know Mermaid."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from airflow_zen.lineage.graph.model import Graph, Node, NodeKind
from airflow_zen.lineage.graph.svg import markdown_cell
from airflow_zen.lineage.mlflow.encoding import ELLIPSIS, MAX_TAG_VALUE

# A diagram of more nodes is no longer drawn by common viewers.
_MAX_DIAGRAM_NODES = 250

_INVALID_DIAGRAM_CHARACTERS = re.compile(r"[^\w.\-/ \[\]×=,:·]")


def render_markdown(graph: Graph) -> str:
    """Write the whole graph."""
    title = f"# Lineage of {markdown_cell(graph.dag_id)}\n\nDAG run {markdown_cell(graph.run_id)}"
    artifacts = [f"| {' | '.join(_artifact_row(node))} |" for node in graph.artifacts]
    listed = "\n".join(["| artifact | from | type | shape | digest |", "|---|---|---|---|---|", *artifacts])
    return f"{title}\n\n{steps_table(graph)}\n\n## Artifacts\n\n{listed}\n\n{_diagram(graph)}\n"


def steps_table(graph: Graph, max_length: int | None = None) -> str:
    """Write a table of the steps, each linked to its run; one that exceeds `max_length` characters says what it left out."""
    reads, makes = _neighbor_labels(graph)
    rows = [_step_row(node, reads[node.id], makes[node.id]) for node in graph.steps]
    head = ["| step | state | reads | makes |", "|---|---|---|---|"]
    shown_rows = rows if max_length is None else _rows_within(rows, max_length - sum(map(len, head)) - 80)
    left = len(rows) - len(shown_rows)
    rest = [f"| {ELLIPSIS} {left} more, in `lineage/lineage.md` | | | |"] if left else []
    return "\n".join([*head, *shown_rows, *rest])


def _rows_within(rows: Sequence[str], max_length: int) -> list[str]:
    shown_rows: list[str] = []
    for row in rows:
        max_length -= len(row) + 1
        if max_length < 0:
            break
        shown_rows.append(row)
    return shown_rows


def _step_row(node: Node, reads: Sequence[str], makes: Sequence[str]) -> str:
    name = markdown_cell(node.label)
    linked = f"[{name}]({node.url})" if node.url else name
    return f"| {linked} | {markdown_cell(node.detail)} | {_label_list(reads)} | {_label_list(makes)} |"


def _label_list(labels: Sequence[str], max_labels: int = 4) -> str:
    shown = ", ".join(markdown_cell(label) for label in labels[:max_labels])
    return f"{shown} {ELLIPSIS} {len(labels) - max_labels} more" if len(labels) > max_labels else shown


def _artifact_row(node: Node) -> Iterable[str]:
    facts = node.facts
    name = f"{markdown_cell(node.label)}{' (model)' if node.kind is NodeKind.MODEL else ''}"
    digest = facts.get("digest", "")
    yield f"[{name}]({node.url})" if node.url else name
    for fact in ("from", "type", "shape"):
        yield markdown_cell(facts.get(fact, ""))
    yield f"`{digest}`" if digest else markdown_cell(facts.get("digests", ""))


def _neighbor_labels(graph: Graph) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
    label = {node.id: node.label for node in graph.nodes}
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        before[edge.target].append(label[edge.source])
        after[edge.source].append(label[edge.target])
    return before, after


def _diagram(graph: Graph) -> str:
    if len(graph.nodes) > _MAX_DIAGRAM_NODES:
        return f"{ELLIPSIS} The diagram of {len(graph.nodes)} nodes is in `lineage/lineage.html`."
    names = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    boxes = [f"  {names[node.id]}{_box(node)}" for node in graph.nodes]
    arrows = [f"  {names[edge.source]} --> {names[edge.target]}" for edge in graph.edges]
    return "\n".join(["```mermaid", "flowchart TD", *boxes, *arrows, "```"])


def _box(node: Node) -> str:
    left, right = {NodeKind.STEP: ("[", "]"), NodeKind.MODEL: ("{{", "}}")}.get(node.kind, ("([", "])"))
    return f'{left}"{_INVALID_DIAGRAM_CHARACTERS.sub("_", node.label)}"{right}'


GRAPH_FOLDER = "lineage"


def dag_run_description(graph: Graph, run_id: str, airflow_url: str, has_graph: bool) -> str:
    """Write the description of a parent run within MLflow's limit.

    The picture comes first, for MLflow folds a long description; `has_graph` tells whether MLflow has it.
    """
    parts = [f"![Lineage](get-artifact?path={GRAPH_FOLDER}/lineage.svg&run_uuid={run_id})"] if has_graph else []
    if airflow_url:
        parts.append(f"[DAG run in Airflow]({airflow_url})")
    if has_graph:
        parts.append(f"Under *Artifacts*, `{GRAPH_FOLDER}/lineage.html` is this graph to pan, zoom and follow.")
    text = "\n\n".join(parts)
    return f"{text}\n\n{steps_table(graph, MAX_TAG_VALUE - len(text) - 2)}".strip()
