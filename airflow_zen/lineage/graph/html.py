"""The graph as a page of its own: pan, zoom, follow an artifact; no network, and no script but ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import Any

from airflow_zen.lineage.graph.layout import Drawing
from airflow_zen.lineage.graph.model import Graph
from airflow_zen.lineage.graph.svg import drawn, shapes, style
from airflow_zen.lineage.graph.text import safe

_MARK = re.compile("@([A-Z_]+)@")


def html(graph: Graph) -> str:
    """Give the page; its content policy allows no script but the one whose hash it names, and no request."""
    drawing = drawn(graph, across=True)
    script = _file("viewer.js")
    parts = {
        "TITLE": safe(f"{graph.dag_id} · {graph.run_id}"),
        "SHAPES_STYLE": style(),
        "SHAPES": shapes(drawing),
        "GRAPH": _harmless(_document(graph, drawing)),
        "SCRIPT": script,
        "SCRIPT_HASH": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    # One pass: what a user's text looks like is never taken for one of our marks.
    return _MARK.sub(lambda mark: parts[mark[1]], _file("viewer.html"))


def _document(graph: Graph, drawing: Drawing) -> dict[str, Any]:
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


def _harmless(document: Any) -> str:
    """Write JSON in which no text can end the element around it; all of it is ASCII."""
    return json.dumps(document).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _file(name: str) -> str:
    return (files("airflow_zen.lineage.graph") / name).read_text("utf-8")
