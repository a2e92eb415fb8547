"""The graph as one SVG, which scales with the page around it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

from airflow_zen.lineage.graph.layout import Drawing, PlacedNode, Point, Route, Size, lay_out
from airflow_zen.lineage.graph.model import Graph, Node, NodeKind
from airflow_zen.lineage.mlflow.encoding import ELLIPSIS
from airflow_zen.markup import escape_html

_STEP, _ARTIFACT = Size(196, 52), Size(176, 40)
_MARGIN = 20.0
# A small graph is not enlarged to the width of the page.
_MIN_WIDTH = 760.0
# Widths of characters, as parts of the font's size.
_NARROW, _FULL = 0.58, 1.0

STYLE = """
.zen text{font-family:-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.zen .label{font-size:13px;font-weight:600;fill:#1b2733}
.zen .detail{font-size:10.5px;fill:#5b6b7b}
.zen .edge{fill:none;stroke:#9aa8b5;stroke-width:1.4}
.zen .box{stroke-width:1.2}
.zen .step .box{fill:#fff;stroke:#c3ced8}
.zen .artifact .box{fill:#eef4fb;stroke:#b6cbe2}
.zen .model .box{fill:#f4effc;stroke:#cbb8ea}
.zen .FINISHED .mark{fill:#2e9e5b}.zen .CACHED .mark{fill:#18a2b8}.zen .FAILED .mark{fill:#d64545}
.zen .KILLED .mark{fill:#d98b1f}.zen .RUNNING .mark{fill:#3b7ddd}
.zen .FAILED .box{stroke:#d64545}.zen .CACHED .box{stroke-dasharray:4 3}
"""


_ARROW = (
    '<defs><marker id="zen-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 .8 7 4 0 7.2z" fill="#9aa8b5"/></marker></defs>'
)


def render_svg(graph: Graph) -> str:
    """Draw the graph top to bottom or left to right, whichever is narrower; all text in it is escaped."""
    drawing = min((lay_out_boxes(graph, horizontal) for horizontal in (False, True)), key=lambda made: made.size.width)
    width = max(drawing.size.width + 2 * _MARGIN, _MIN_WIDTH)
    height = drawing.size.height + 2 * _MARGIN
    left = (width - drawing.size.width) / 2
    title = f"Lineage of {graph.dag_id} {graph.run_id}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="100%" viewBox="0 0 {width:.0f} {height:.0f}" role="img">'
        f"<title>{escape_html(title)}</title><style>{STYLE}</style>"
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="10" fill="#fbfcfd" stroke="#e3e9ee"/>'
        f'<g transform="translate({left:.1f} {_MARGIN:.1f})">{render_shapes(drawing)}</g></svg>'
    )


def lay_out_boxes(graph: Graph, horizontal: bool) -> Drawing:
    """Lay out the graph for the boxes that `render_shapes` draws."""
    sizes = {node.id: _STEP if node.kind is NodeKind.STEP else _ARTIFACT for node in graph.nodes}
    return lay_out(graph, sizes, horizontal)


def render_shapes(drawing: Drawing) -> str:
    """Draw all shapes as one group; `data-node` and `data-edge` hold the numbers of nodes and edges."""
    edges = (_edge(route, number, drawing.horizontal) for number, route in enumerate(drawing.routes))
    nodes = (_node(placed, number) for number, placed in enumerate(drawing.nodes))
    return f'{_ARROW}<g class="zen">{"".join(edges)}{"".join(nodes)}</g>'


def _node(placed: PlacedNode, number: int) -> str:
    node, size = placed.node, placed.size
    kind = f"{node.kind} {node.state}".strip()
    whole = " · ".join(part for part in (node.label, node.detail) if part)
    return (
        f'<g class="node {kind}" data-node="{number}" transform="translate({placed.x:.1f} {placed.y:.1f})">'
        f"<title>{escape_html(whole)}</title>{''.join(_boxes(node, size))}{''.join(_texts(node, size))}</g>"
    )


def _boxes(node: Node, size: Size) -> Iterator[str]:
    step = node.kind is NodeKind.STEP
    radius = 8.0 if step else size.height / 2
    for shift in (8, 4, 0) if node.count > 1 else (0,):
        place = f'x="{shift}" y="{shift}"'
        yield f'<rect class="box" {place} width="{size.width:.0f}" height="{size.height:.0f}" rx="{radius:g}"/>'
    if step:
        yield f'<rect class="mark" x="0" y="0" width="6" height="{size.height:.0f}" rx="3"/>'
    elif node.kind is NodeKind.MODEL:
        yield f'<path d="M19 {size.height / 2 - 7}l6 3.5v7l-6 3.5l-6-3.5v-7z" fill="#8a63d2"/>'


def _texts(node: Node, size: Size) -> Iterator[str]:
    left, middle = 34 if node.kind is NodeKind.MODEL else 18, size.height / 2
    for name, text, font, shift in (("label", node.label, 13.0, -2), ("detail", node.detail, 10.5, 13)):
        shown = _truncate(text, size.width - left - 12, font)
        yield f'<text class="{name}" x="{left}" y="{middle + shift:g}">{shown}</text>'


def _edge(route: Route, number: int, horizontal: bool) -> str:
    title = f"<title>{escape_html(route.edge.label)}</title>" if route.edge.label else ""
    path = _path(route.points, horizontal)
    return f'<path class="edge" data-edge="{number}" d="{path}" marker-end="url(#zen-arrow)">{title}</path>'


def _path(points: Sequence[Point], horizontal: bool) -> str:
    """Draw a smooth line that begins and ends along the flow."""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        middle_x, middle_y = (x + to_x) / 2, (y + to_y) / 2
        first, second = ((middle_x, y), (middle_x, to_y)) if horizontal else ((x, middle_y), (to_x, middle_y))
        parts.append("C" + " ".join(f"{at:.1f}" for at in (*first, *second, to_x, to_y)))
    return "".join(parts)


def _truncate(text: str, width: float, size: float) -> str:
    """Cut a text to about `width` pixels at a font of `size` pixels, and escape it."""
    for place, character in enumerate(text):
        width -= size * (_FULL if unicodedata.east_asian_width(character) in "WF" else _NARROW)
        if width < 0:
            return escape_html(text[: max(place - 1, 1)] + ELLIPSIS)
    return escape_html(text)
