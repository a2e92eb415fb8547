"""The graph as JSON, for programs; the format is documented in `docs/lineage.md`."""

from __future__ import annotations

import json
from typing import Any

from airflow_zen.lineage.graph.model import Graph, Node

JSON_FORMAT_VERSION = 1


def render_json(graph: Graph) -> str:
    """Write nodes and edges."""
    written = {
        "airflow_zen": JSON_FORMAT_VERSION,
        "dag_id": graph.dag_id,
        "run_id": graph.run_id,
        "nodes": [_node_json(node) for node in graph.nodes],
        "edges": [{"source": e.source, "target": e.target, "label": e.label} for e in graph.edges],
    }
    return json.dumps(written, indent=1, ensure_ascii=False)


def _node_json(node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "kind": str(node.kind),
        "label": node.label,
        "state": node.state,
        "count": node.count,
        "url": node.url,
        "started": node.started,
        "ended": node.ended,
        "facts": dict(node.facts),
    }
