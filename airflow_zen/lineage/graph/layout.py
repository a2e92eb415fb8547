"""Where nodes and edges go: layers in the order of flow (Sugiyama, Tagawa, Toda 1981), few crossings, straight edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_zen.lineage.graph.layers import Layers, layers_of
from airflow_zen.lineage.graph.model import Edge, Graph, Node
from airflow_zen.lineage.graph.spread import spread

Point = tuple[float, float]

_BESIDE = 26.0
_BETWEEN = {True: 64.0, False: 38.0}
_BEND_ROOM = 14.0


@dataclass(frozen=True)
class Size:
    """Width and height in pixels."""

    width: float
    height: float


@dataclass(frozen=True)
class Placed:
    """A node and its upper left corner."""

    node: Node
    x: float
    y: float
    size: Size


@dataclass(frozen=True)
class Route:
    """An edge and the points it passes, from border to border."""

    edge: Edge
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Drawing:
    """A laid out graph; `across` tells flow from left to right from flow from top to bottom."""

    across: bool
    size: Size
    nodes: tuple[Placed, ...]
    routes: tuple[Route, ...]


def lay_out(graph: Graph, sizes: Mapping[str, Size], across: bool) -> Drawing:
    """Place nodes of the given sizes; back edges of a cycle run against the flow."""
    layers = layers_of(graph)
    breadth = {name: _breadth(sizes.get(name), across) for layer in layers.order for name in layer}
    centres = spread(layers, breadth, _BESIDE)
    starts, total = _depths(layers, sizes, across)
    nodes = {node.id: _placed(node, sizes[node.id], centres, starts, across) for node in graph.nodes}
    routes = tuple(_route(edge, layers, centres, starts, nodes, across) for edge in graph.edges)
    extent = max((centres[name] + breadth[name] / 2 for name in centres), default=0.0)
    return Drawing(across, Size(total, extent) if across else Size(extent, total), tuple(nodes.values()), routes)


def _breadth(size: Size | None, across: bool) -> float:
    """Give the room beside others in its layer; a bend of a long edge has no size."""
    if size is None:
        return _BEND_ROOM
    return size.height if across else size.width


def _depths(layers: Layers, sizes: Mapping[str, Size], across: bool) -> tuple[dict[str, tuple[float, float]], float]:
    """Give for every name where its layer begins and how deep it is, and the sum."""
    starts: dict[str, tuple[float, float]] = {}
    position = 0.0
    for layer in layers.order:
        known = [sizes[name] for name in layer if name in sizes]
        depth = max((size.width if across else size.height for size in known), default=0.0)
        starts.update(dict.fromkeys(layer, (position, depth)))
        position += depth + _BETWEEN[across]
    return starts, max(position - _BETWEEN[across], 0.0)


def _placed(
    node: Node, size: Size, centres: Mapping[str, float], starts: Mapping[str, tuple[float, float]], across: bool
) -> Placed:
    start, depth = starts[node.id]
    if across:
        return Placed(node, start + (depth - size.width) / 2, centres[node.id] - size.height / 2, size)
    return Placed(node, centres[node.id] - size.width / 2, start + (depth - size.height) / 2, size)


def _route(
    edge: Edge,
    layers: Layers,
    centres: Mapping[str, float],
    starts: Mapping[str, tuple[float, float]],
    nodes: Mapping[str, Placed],
    across: bool,
) -> Route:
    points = [_border(nodes[edge.source], across, after=True)]
    for bend in layers.bends.get((edge.source, edge.target), ()):
        start, depth = starts[bend]
        before, behind = (start, centres[bend]), (start + depth, centres[bend])
        points += [before, behind] if across else [before[::-1], behind[::-1]]
    points.append(_border(nodes[edge.target], across, after=False))
    return Route(edge, tuple(points))


def _border(placed: Placed, across: bool, after: bool) -> Point:
    middle = placed.x + placed.size.width / 2, placed.y + placed.size.height / 2
    if across:
        return placed.x + (placed.size.width if after else 0.0), middle[1]
    return middle[0], placed.y + (placed.size.height if after else 0.0)
