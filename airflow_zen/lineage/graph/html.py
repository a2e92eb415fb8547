"""The graph as one HTML page to pan, zoom and search, with no request and no script but ours; and as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING

from airflow_zen.lineage.graph.svg import STYLE, lay_out_boxes, render_shapes
from airflow_zen.markup import escape_html

if TYPE_CHECKING:
    from airflow_zen.lineage.graph.layout import Drawing
    from airflow_zen.lineage.graph.model import Graph

JSON_FORMAT_VERSION = 1
_PLACEHOLDER = re.compile("@([A-Z_]+)@")


def render_html(graph: Graph) -> str:
    """Return the page; its content security policy allows only the script whose hash it names, and no request."""
    drawing = lay_out_boxes(graph, horizontal=True)
    script = _read_resource("viewer.js")
    parts = {
        "TITLE": escape_html(f"{graph.dag_id} · {graph.run_id}"),
        "SHAPES_STYLE": STYLE,
        "SHAPES": render_shapes(drawing),
        "GRAPH": _viewer_json(drawing),
        "SCRIPT": script,
        "SCRIPT_HASH": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    # One pass, so that a placeholder in a user's text is not replaced.
    return _PLACEHOLDER.sub(lambda mark: parts[mark[1]], _read_resource("viewer.html"))


def render_json(graph: Graph) -> str:
    """Return nodes and edges as JSON."""
    return json.dumps({"airflow_zen": JSON_FORMAT_VERSION, **asdict(graph)}, indent=1, ensure_ascii=False)


def _viewer_json(drawing: Drawing) -> str:
    """Return the graph for the script, as ASCII in which no text can end the element around it."""
    number = {placed.node.id: number for number, placed in enumerate(drawing.nodes)}
    document = {
        "nodes": [
            {**asdict(placed.node), "box": {"x": placed.x, "y": placed.y, **asdict(placed.size)}}
            for placed in drawing.nodes
        ],
        "edges": [[number[route.edge.source], number[route.edge.target], route.edge.label] for route in drawing.routes],
        "size": asdict(drawing.size),
    }
    return json.dumps(document).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read_resource(name: str) -> str:
    return (files("airflow_zen.lineage.graph") / name).read_text("utf-8")
