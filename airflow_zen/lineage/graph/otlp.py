"""The graph as one trace for MLflow's own graph view, which merges spans by type and name: a span for each edge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from airflow_zen.lineage.graph.model import Graph, Node, NodeKind

# Span types of MLflow, which select the icon.
_SPAN_TYPES = {NodeKind.STEP: "TASK", NodeKind.ARTIFACT: "RETRIEVER", NodeKind.MODEL: "CHAT_MODEL"}
_MAX_SPANS = 2000
_OK, _ERROR = 1, 2


def render_otlp(
    graph: Graph, experiment_id: str, parent_run_id: str, started: float, ended: float
) -> dict[str, Any] | None:
    """Return the trace as OTLP JSON; None where there is nothing to show, or more than MLflow's view can draw.

    Its ids are derived from the DAG run, so that sending it again makes no second trace. Times are seconds since the
    epoch; artifacts, which have none, take those of the step before them.
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
    """Make a span for each node below its first source, with all that follows from it, and a bare one below every other."""

    def __init__(self, graph: Graph, trace_id: str, started: float, ended: float) -> None:
        self._graph = graph
        self._trace_id = trace_id
        self._interval = (started, max(ended, started))
        self._nodes = {node.id: node for node in graph.nodes}
        self._unique_names = _unique_names(graph)
        self._after, self._before = graph.edges_by("source"), graph.edges_by("target")

    def build(self) -> list[dict[str, Any]]:
        graph, root = self._graph, self._id("root", "")
        attributes = {"mlflow.spanType": "WORKFLOW", "mlflow.spanInputs": {"DAG run": graph.run_id}}
        spans = [self._span(root, "", f"{graph.dag_id} {graph.run_id}", self._interval, _OK, attributes)]
        todo = [(root, "", node) for node in graph.nodes if not self._before[node.id]]
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
        """Return a node of a cycle that no node outside it leads to."""
        return [(root, "", node) for node in self._graph.nodes if node.id not in visited][:1]

    def _id(self, source: str, target: str) -> str:
        return hashlib.sha256(f"{self._trace_id}\0{source}\0{target}".encode()).hexdigest()[:16]

    def _node_span(self, span_id: str, parent: str, node: Node) -> dict[str, Any]:
        attributes = {
            "mlflow.spanType": _SPAN_TYPES[node.kind],
            "mlflow.spanInputs": {edge.label: self._nodes[edge.source].label for edge in self._before[node.id]},
            "mlflow.spanOutputs": {**node.facts, **({"MLflow": node.url} if node.url else {})},
        }
        status = _ERROR if node.state in {"FAILED", "KILLED"} else _OK
        return self._span(span_id, parent, self._unique_names[node.id], self._times(node), status, attributes)

    def _times(self, node: Node) -> tuple[float, float]:
        if node.started is None:
            ends = [self._nodes[edge.source].ended for edge in self._before[node.id]]
            end = max((end for end in ends if end is not None), default=self._interval[0])
            return end, end
        return node.started, self._interval[1] if node.ended is None else node.ended

    def _span(
        self,
        span_id: str,
        parent: str,
        name: str,
        times: tuple[float, float],
        status: int,
        attributes: Mapping[str, object],
    ) -> dict[str, Any]:
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
    """Return a name for each node that is unique among those of its kind, because MLflow's view merges equal ones."""
    counts: dict[tuple[NodeKind, str], int] = {}
    names: dict[str, str] = {}
    for node in graph.nodes:
        number = counts[node.kind, node.label] = counts.get((node.kind, node.label), 0) + 1
        names[node.id] = node.label if number == 1 else f"{node.label} ({number})"
    return names


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}
