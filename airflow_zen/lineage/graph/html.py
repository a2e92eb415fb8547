"""The graph as a page of its own: pan, zoom, follow an artifact; no network, and no script but ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from airflow_zen.lineage.graph.svg import escape_html, lay_out_boxes, render_shapes, stylesheet

if TYPE_CHECKING:
    from airflow_zen.lineage.graph.layout import Drawing
    from airflow_zen.lineage.graph.model import Graph, Node

_PLACEHOLDER = re.compile("@([A-Z_]+)@")


def render_html(graph: Graph) -> str:
    """Give the page; its content policy allows no script but the one whose hash it names, and no request."""
    drawing = lay_out_boxes(graph, horizontal=True)
    script = _read_resource("viewer.js")
    parts = {
        "TITLE": escape_html(f"{graph.dag_id} · {graph.run_id}"),
        "SHAPES_STYLE": stylesheet(),
        "SHAPES": render_shapes(drawing),
        "GRAPH": _escape_script_json(_viewer_json(graph, drawing)),
        "SCRIPT": script,
        "SCRIPT_HASH": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    # One pass: what a user's text looks like is never taken for one of our marks.
    return _PLACEHOLDER.sub(lambda mark: parts[mark[1]], _read_resource("viewer.html"))


def _viewer_json(graph: Graph, drawing: Drawing) -> dict[str, Any]:
    place = {placed.node.id: number for number, placed in enumerate(drawing.nodes)}
    nodes = [
        {
            "kind": str(placed.node.kind),
            "label": placed.node.label,
            "detail": placed.node.detail,
            "url": placed.node.url,
            "facts": dict(placed.node.facts),
            "box": {"x": placed.x, "y": placed.y, "width": placed.size.width, "height": placed.size.height},
        }
        for placed in drawing.nodes
    ]
    edges = [[place[route.edge.source], place[route.edge.target], route.edge.label] for route in drawing.routes]
    return {"nodes": nodes, "edges": edges, "size": {"width": drawing.size.width, "height": drawing.size.height}}


def _escape_script_json(document: Any) -> str:
    """Write JSON in which no text can end the element around it; all of it is ASCII."""
    return json.dumps(document).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read_resource(name: str) -> str:
    return (files("airflow_zen.lineage.graph") / name).read_text("utf-8")


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
