"""The graph as one trace, whose graph view MLflow draws itself: a span for each edge, merged by type and name."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from airflow_zen.lineage.graph.model import Edge, Graph, Node, NodeKind

# MLflow's words, which choose the icon of a span.
_SPAN_TYPES = {NodeKind.STEP: "TASK", NodeKind.ARTIFACT: "RETRIEVER", NodeKind.MODEL: "CHAT_MODEL"}
_MAX_SPANS = 2000
_OK, _ERROR = 1, 2


def render_otlp(
    graph: Graph, experiment_id: str, parent_run_id: str, started: float, ended: float
) -> dict[str, Any] | None:
    """Write the trace as OTLP JSON; None where there is nothing to show, or more than MLflow's view can draw.

    Its ids follow from the DAG run, so that sending it again makes no second one. Times are seconds
    since the epoch; artifacts, which have none, take those of the step before them.
    """
    if not graph.nodes or len(graph.edges) + len(graph.nodes) > _MAX_SPANS:
        return None
    key = f"{experiment_id}/{parent_run_id}"
    spans = _SpanBuilder(graph, hashlib.sha256(key.encode()).hexdigest()[:32], started, ended).build()
    resource = {"attributes": [_attribute("service.name", "airflow")]}
    return {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "airflow_zen"}, "spans": spans}]}]
    }


class _SpanBuilder:
    """Write each node once below its first source, with all that follows from it, and bare below every other."""

    def __init__(self, graph: Graph, trace_id: str, started: float, ended: float) -> None:
        self._graph = graph
        self._trace_id = trace_id
        self._interval = (started, max(ended, started))
        self._nodes = {node.id: node for node in graph.nodes}
        self._unique_names = _unique_names(graph)
        self._after: dict[str, list[Edge]] = defaultdict(list)
        self._before: dict[str, list[Edge]] = defaultdict(list)
        for edge in graph.edges:
            self._after[edge.source].append(edge)
            self._before[edge.target].append(edge)

    def build(self) -> list[dict[str, Any]]:
        name = f"{self._graph.dag_id} {self._graph.run_id}"
        root = self._id("root", "")
        spans = [self._span(root, "", name, "WORKFLOW", self._interval, _OK, {"DAG run": self._graph.run_id}, {})]
        todo = [(root, "", node) for node in self._graph.nodes if not self._before[node.id]]
        visited: set[str] = set()
        while todo or (todo := self._unvisited_node(visited, root)):
            parent, source, node = todo.pop()
            span_id = self._id(source, node.id)
            spans.append(self._node_span(span_id, parent, node))
            if node.id not in visited:
                visited.add(node.id)
                targets = dict.fromkeys(edge.target for edge in self._after[node.id])
                todo += [(span_id, node.id, self._nodes[target]) for target in reversed(targets)]
        return spans

    def _unvisited_node(self, visited: set[str], root: str) -> list[tuple[str, str, Node]]:
        """Give a node of a cycle that nothing outside it leads to."""
        left = next((node for node in self._graph.nodes if node.id not in visited), None)
        return [(root, "", left)] if left else []

    def _id(self, source: str, target: str) -> str:
        return hashlib.sha256(f"{self._trace_id}\0{source}\0{target}".encode()).hexdigest()[:16]

    def _node_span(self, span_id: str, parent: str, node: Node) -> dict[str, Any]:
        status = _ERROR if node.state in {"FAILED", "KILLED"} else _OK
        reads = {edge.label: self._nodes[edge.source].label for edge in self._before[node.id]}
        facts = {**node.facts, **({"MLflow": node.url} if node.url else {})}
        return self._span(
            span_id,
            parent,
            self._unique_names[node.id],
            _SPAN_TYPES[node.kind],
            self._times(node),
            status,
            reads,
            facts,
        )

    def _times(self, node: Node) -> tuple[float, float]:
        if node.started is None:
            ends = [self._nodes[edge.source].ended for edge in self._before[node.id]]
            known = [end for end in ends if end is not None]
            return (max(known), max(known)) if known else (self._interval[0], self._interval[0])
        return node.started, self._interval[1] if node.ended is None else node.ended

    def _span(
        self,
        span_id: str,
        parent: str,
        name: str,
        kind: str,
        times: tuple[float, float],
        status: int,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
    ) -> dict[str, Any]:
        attributes = {"mlflow.spanType": kind, "mlflow.spanInputs": inputs, "mlflow.spanOutputs": outputs}
        return {
            "traceId": self._trace_id,
            "spanId": span_id,
            "parentSpanId": parent,
            "name": name,
            "startTimeUnixNano": str(round(times[0] * 1e9)),
            "endTimeUnixNano": str(round(times[1] * 1e9)),
            "status": {"code": status},
            "attributes": [_attribute(key, json.dumps(value)) for key, value in attributes.items() if value],
        }


def _unique_names(graph: Graph) -> dict[str, str]:
    """Give each node a name of its own among those of its type, for MLflow's view merges equal ones."""
    taken: dict[tuple[NodeKind, str], int] = {}
    names: dict[str, str] = {}
    for node in graph.nodes:
        number = taken[node.kind, node.label] = taken.get((node.kind, node.label), 0) + 1
        names[node.id] = node.label if number == 1 else f"{node.label} ({number})"
    return names


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}
