"""Lay out the lineage graph, and draw it as one SVG."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

import msgspec

from airflow_zen.lineage.graph.model import Edge, Graph, Node, NodeKind
from airflow_zen.lineage.mlflow.encoding import ELLIPSIS
from airflow_zen.markup import escape_html

Point = tuple[float, float]
Pair = tuple[str, str]
Neighbors = defaultdict[str, list[str]]

_NODE_GAP = 26.0
_LAYER_GAP = {True: 64.0, False: 38.0}
_BEND_SIZE = 14.0
_SWEEPS = 12
_PASSES, _FINAL_PASSES = 80, 40

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


class Size(msgspec.Struct, frozen=True):
    """Width and height in pixels."""

    width: float
    height: float


class PlacedNode(msgspec.Struct, frozen=True):
    """A node with its upper left corner and its size."""

    node: Node
    x: float
    y: float
    size: Size


class Route(msgspec.Struct, frozen=True):
    """An edge and the points that it passes, from border to border."""

    edge: Edge
    points: Sequence[Point]


class Drawing(msgspec.Struct, frozen=True):
    """A laid out graph; `horizontal` means flow from left to right, else from top to bottom."""

    horizontal: bool
    size: Size
    nodes: Sequence[PlacedNode]
    routes: Sequence[Route]


def lay_out(graph: Graph, sizes: Mapping[str, Size], horizontal: bool) -> Drawing:
    """Place nodes of the given sizes; back edges of a cycle run against the flow."""

    def turn(along: float, across: float) -> Point:
        return (along, across) if horizontal else (across, along)

    layers = _assign_layers(graph)
    spans = {name: turn(size.width, size.height) for name, size in sizes.items()}
    breadth = {name: spans[name][1] if name in spans else _BEND_SIZE for row in layers.order for name in row}
    centers = _assign_centers(layers, breadth)
    ends, total = _assign_ends(layers, spans, _LAYER_GAP[horizontal])
    nodes = [
        PlacedNode(node, *turn(ends[node.id][0], centers[node.id] - breadth[node.id] / 2), sizes[node.id])
        for node in graph.nodes
    ]
    routes = []
    for edge in graph.edges:
        passed = (edge.source, *layers.bends.get((edge.source, edge.target), ()), edge.target)
        stations = [turn(end, centers[name]) for name in passed for end in ends[name]]
        routes.append(Route(edge, stations[1:-1]))
    extent = max((centers[name] + breadth[name] / 2 for name in centers), default=0.0)
    return Drawing(horizontal, Size(*turn(total, extent)), nodes, routes)


class _Layers(msgspec.Struct, frozen=True):
    """Names by layer and position; a name that is no node is a bend of a long edge, listed in `bends` by the edge."""

    order: Sequence[Sequence[str]]
    bends: Mapping[Pair, Sequence[str]]
    before: Neighbors
    after: Neighbors


def _assign_ends(layers: _Layers, spans: Mapping[str, Point], gap: float) -> tuple[dict[str, Point], float]:
    """Return the start and end of each name along the flow, and the total length; a bend is as deep as its layer."""
    ends: dict[str, Point] = {}
    position = 0.0
    for row in layers.order:
        depth = max((spans[name][0] for name in row if name in spans), default=0.0)
        for name in row:
            length = spans[name][0] if name in spans else depth
            first = position + (depth - length) / 2
            ends[name] = first, first + length
        position += depth + gap
    return ends, max(position - gap, 0.0)


def _assign_layers(graph: Graph) -> _Layers:
    """Assign layers by the longest path from a source, then order each layer to avoid crossings."""
    pairs = dict.fromkeys((edge.source, edge.target) for edge in graph.edges)
    flow = _flow_order([node.id for node in graph.nodes], _neighbor_maps(pairs)[1])
    onward = [(source, target) for source, target in pairs if flow[source] < flow[target]]
    rank = _assign_ranks(flow, *_neighbor_maps(onward))
    bends = {
        (source, target): [f"bend:{source}>{target}#{row}" for row in range(rank[source] + 1, rank[target])]
        for source, target in onward
    }
    rows: list[list[str]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for node in graph.nodes:
        rows[rank[node.id]].append(node.id)
    for (source, _), bent in bends.items():
        for row, bend in enumerate(bent, rank[source] + 1):
            rows[row].append(bend)
    links = (link for (source, target), bent in bends.items() for link in pairwise([source, *bent, target]))
    before, after = _neighbor_maps(links)
    return _Layers(_reduce_crossings(rows, before, after), bends, before, after)


def _flow_order(names: Sequence[str], after: Neighbors) -> dict[str, int]:
    """Return the position of each node in a depth-first order of the flow; an edge against it closes a cycle."""
    position: dict[str, int] = {}
    started: set[str] = set()
    todo = [*reversed(names)]
    while todo:
        if (name := todo[-1]) in started:
            position.setdefault(todo.pop(), -len(position))
        else:
            started.add(name)
            todo += [target for target in reversed(after[name]) if target not in started]
    return position


def _assign_ranks(flow: Mapping[str, int], before: Neighbors, after: Neighbors) -> dict[str, int]:
    """Return the layer of each node; a source is placed just before the first node that it leads to."""
    rank: dict[str, int] = {}
    for name in sorted(flow, key=flow.__getitem__):
        rank[name] = max((rank[source] + 1 for source in before[name]), default=0)
    for name in flow:
        if not before[name] and after[name]:
            rank[name] = min(rank[target] for target in after[name]) - 1
    return rank


def _neighbor_maps(pairs: Iterable[Pair]) -> tuple[Neighbors, Neighbors]:
    """Return the sources of each target, and the targets of each source."""
    before, after = Neighbors(list), Neighbors(list)
    for source, target in pairs:
        before[target].append(source)
        after[source].append(target)
    return before, after


def _reduce_crossings(rows: list[list[str]], before: Neighbors, after: Neighbors) -> Sequence[Sequence[str]]:
    """Sort each layer by the positions of its neighbors, forward and back, and keep the order with fewest crossings."""
    tried = [rows]
    for sweep in range(_SWEEPS):
        step, neighbors = (-1, after) if sweep % 2 else (1, before)
        turned = tried[-1][::step]
        for number, row in enumerate(turned[1:], 1):
            position = {name: at for at, name in enumerate(turned[number - 1])}
            # A name without neighbors stays where it was.
            mean = {name: _mean([position[other] for other in neighbors[name]], at) for at, name in enumerate(row)}
            turned[number] = sorted(row, key=mean.__getitem__)
        tried.append(turned[::step])
    return min(tried, key=lambda made: _count_crossings(made, after))


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _count_crossings(rows: Sequence[Sequence[str]], after: Neighbors) -> int:
    """Count the crossings between adjacent layers as inversions."""
    total = 0
    for row, following in pairwise(rows):
        position = {name: number for number, name in enumerate(following)}
        seen: list[int] = []
        for end in (end for name in row for end in sorted(position[target] for target in after[name])):
            total += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return total


def _assign_centers(layers: _Layers, breadth: Mapping[str, float]) -> dict[str, float]:
    """Return the center of every name across the flow, the smallest border at 0.

    Each pass moves names to the mean of their neighbors: of those before and after in turn, in the last passes of both.
    """
    centers = dict.fromkeys(breadth, 0.0)
    for number in range(_PASSES):
        first, second, step = (layers.after, layers.before, -1) if number % 2 else (layers.before, layers.after, 1)
        both = number >= _PASSES - _FINAL_PASSES
        for row in layers.order[::step]:
            near = [[*first[name], *(second[name] if both or not first[name] else ())] for name in row]
            wanted = [_mean([centers[other] for other in near[at]], centers[name]) for at, name in enumerate(row)]
            centers.update(zip(row, _separate(wanted, [breadth[name] for name in row]), strict=True))
    lowest = min((center - breadth[name] / 2 for name, center in centers.items()), default=0.0)
    return {name: center - lowest for name, center in centers.items()}


def _separate(preferred: Sequence[float], breadths: Sequence[float]) -> list[float]:
    """Move centers as little as possible to keep order and distance (isotonic regression by pooling)."""
    offsets = [*accumulate(((left + right) / 2 + _NODE_GAP for left, right in pairwise(breadths)), initial=0.0)]
    pools: list[tuple[float, int]] = []
    for value, offset in zip(preferred, offsets, strict=False):
        mean, count = value - offset, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    levels = [mean for mean, count in pools for _ in range(count)]
    return [level + offset for level, offset in zip(levels, offsets, strict=False)]


_STEP, _ARTIFACT = Size(196, 52), Size(176, 40)


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
