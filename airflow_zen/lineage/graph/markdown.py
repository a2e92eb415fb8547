"""The graph as Markdown: a table of linked steps, one of artifacts, and a Mermaid diagram."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

from airflow_zen.lineage.graph.model import Graph, Node, NodeKind
from airflow_zen.lineage.mlflow.encoding import ELLIPSIS, MAX_TAG_VALUE
from airflow_zen.markup import sanitize_text

GRAPH_FOLDER = "lineage"

# Common viewers do not draw a diagram of more nodes.
_MAX_DIAGRAM_NODES = 250

_INVALID_DIAGRAM_CHARACTERS = re.compile(r"[^\w.\-/ \[\]×=,:·]")


def render_markdown(graph: Graph) -> str:
    """Return the whole graph as one document."""
    title = f"# Lineage of {_cell(graph.dag_id)}\n\nDAG run {_cell(graph.run_id)}"
    artifacts = [f"| {' | '.join(_artifact_row(node))} |" for node in graph.artifacts]
    listed = "\n".join(["| artifact | from | type | shape | digest |", "|---|---|---|---|---|", *artifacts])
    return f"{title}\n\n{steps_table(graph)}\n\n## Artifacts\n\n{listed}\n\n{_diagram(graph)}\n"


def steps_table(graph: Graph, max_length: int | None = None) -> str:
    """Return a table of the steps, each linked to its run; one cut to `max_length` characters counts what it omits."""
    label = {node.id: node.label for node in graph.nodes}
    reads, makes = graph.edges_by("target"), graph.edges_by("source")
    rows = [
        _step_row(
            node, [label[edge.source] for edge in reads[node.id]], [label[edge.target] for edge in makes[node.id]]
        )
        for node in graph.steps
    ]
    head = ["| step | state | reads | makes |", "|---|---|---|---|"]
    if max_length is not None:
        left = max_length - sum(map(len, head)) - 80
        shown = sum(end <= left for end in accumulate(len(row) + 1 for row in rows))
        if shown < len(rows):
            rows[shown:] = [f"| {ELLIPSIS} {len(rows) - shown} more, in `lineage/lineage.md` | | | |"]
    return "\n".join([*head, *rows])


def dag_run_description(graph: Graph, run_id: str, airflow_url: str, has_graph: bool) -> str:
    """Return the description of a parent run, within MLflow's limit.

    The picture comes first, because MLflow folds a long description; `has_graph` is whether MLflow has it.
    """
    parts = [f"![Lineage](get-artifact?path={GRAPH_FOLDER}/lineage.svg&run_uuid={run_id})"] if has_graph else []
    if airflow_url:
        parts.append(f"[DAG run in Airflow]({airflow_url})")
    if has_graph:
        parts.append(f"Under *Artifacts*, `{GRAPH_FOLDER}/lineage.html` is this graph to pan, zoom and follow.")
    text = "\n\n".join(parts)
    return f"{text}\n\n{steps_table(graph, MAX_TAG_VALUE - len(text) - 2)}".strip()


def _step_row(node: Node, reads: Sequence[str], makes: Sequence[str]) -> str:
    name = _cell(node.label)
    linked = f"[{name}]({node.url})" if node.url else name
    return f"| {linked} | {_cell(node.detail)} | {_label_list(reads)} | {_label_list(makes)} |"


def _label_list(labels: Sequence[str], max_labels: int = 4) -> str:
    shown = ", ".join(_cell(label) for label in labels[:max_labels])
    return f"{shown} {ELLIPSIS} {len(labels) - max_labels} more" if len(labels) > max_labels else shown


def _artifact_row(node: Node) -> Iterable[str]:
    facts = node.facts
    name = f"{_cell(node.label)}{' (model)' if node.kind is NodeKind.MODEL else ''}"
    digest = facts.get("digest", "")
    yield f"[{name}]({node.url})" if node.url else name
    for fact in ("from", "type", "shape"):
        yield _cell(facts.get(fact, ""))
    yield f"`{digest}`" if digest else _cell(facts.get("digests", ""))


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


def _cell(text: str) -> str:
    """Return a text for a cell of a table: no markup, no link, no line break."""
    line = " ".join(sanitize_text(text).split())
    return re.sub(r"([\\`*_{}\[\]<>()#!|~$])", r"\\\1", line).replace("&", "&amp;")
