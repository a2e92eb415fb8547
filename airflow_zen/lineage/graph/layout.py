"""Where nodes and edges go: layers in the order of flow (Sugiyama, Tagawa, Toda 1981), few crossings, straight edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_zen.lineage.graph.layers import Layers, assign_layers
from airflow_zen.lineage.graph.model import Edge, Graph, Node
from airflow_zen.lineage.graph.spread import assign_coordinates

Point = tuple[float, float]

_NODE_GAP = 26.0
_LAYER_GAP = {True: 64.0, False: 38.0}
_BEND_SIZE = 14.0


@dataclass(frozen=True)
class Size:
    """Width and height in pixels."""

    width: float
    height: float


@dataclass(frozen=True)
class PlacedNode:
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
    """A laid out graph; `horizontal` tells flow from left to right from flow from top to bottom."""

    horizontal: bool
    size: Size
    nodes: tuple[PlacedNode, ...]
    routes: tuple[Route, ...]


def lay_out(graph: Graph, sizes: Mapping[str, Size], horizontal: bool) -> Drawing:
    """Place nodes of the given sizes; back edges of a cycle run against the flow."""
    layers = assign_layers(graph)
    breadth = {name: _breadth(sizes.get(name), horizontal) for layer in layers.order for name in layer}
    centers = assign_coordinates(layers, breadth, _NODE_GAP)
    starts, total = _layer_positions(layers, sizes, horizontal)
    nodes = {node.id: _place_node(node, sizes[node.id], centers, starts, horizontal) for node in graph.nodes}
    routes = tuple(_route(edge, layers, centers, starts, nodes, horizontal) for edge in graph.edges)
    extent = max((centers[name] + breadth[name] / 2 for name in centers), default=0.0)
    return Drawing(
        horizontal, Size(total, extent) if horizontal else Size(extent, total), tuple(nodes.values()), routes
    )


def _breadth(size: Size | None, horizontal: bool) -> float:
    """Give the room beside others in its layer; a bend of a long edge has no size."""
    if size is None:
        return _BEND_SIZE
    return size.height if horizontal else size.width


def _layer_positions(
    layers: Layers, sizes: Mapping[str, Size], horizontal: bool
) -> tuple[dict[str, tuple[float, float]], float]:
    """Give for every name where its layer begins and how deep it is, and the sum."""
    starts: dict[str, tuple[float, float]] = {}
    position = 0.0
    for layer in layers.order:
        known = [sizes[name] for name in layer if name in sizes]
        depth = max((size.width if horizontal else size.height for size in known), default=0.0)
        starts.update(dict.fromkeys(layer, (position, depth)))
        position += depth + _LAYER_GAP[horizontal]
    return starts, max(position - _LAYER_GAP[horizontal], 0.0)


def _place_node(
    node: Node, size: Size, centers: Mapping[str, float], starts: Mapping[str, tuple[float, float]], horizontal: bool
) -> PlacedNode:
    start, depth = starts[node.id]
    if horizontal:
        return PlacedNode(node, start + (depth - size.width) / 2, centers[node.id] - size.height / 2, size)
    return PlacedNode(node, centers[node.id] - size.width / 2, start + (depth - size.height) / 2, size)


def _route(
    edge: Edge,
    layers: Layers,
    centers: Mapping[str, float],
    starts: Mapping[str, tuple[float, float]],
    nodes: Mapping[str, PlacedNode],
    horizontal: bool,
) -> Route:
    points = [_border_point(nodes[edge.source], horizontal, after=True)]
    for bend in layers.bends.get((edge.source, edge.target), ()):
        start, depth = starts[bend]
        before, behind = (start, centers[bend]), (start + depth, centers[bend])
        points += [before, behind] if horizontal else [before[::-1], behind[::-1]]
    points.append(_border_point(nodes[edge.target], horizontal, after=False))
    return Route(edge, tuple(points))


def _border_point(placed: PlacedNode, horizontal: bool, after: bool) -> Point:
    middle = placed.x + placed.size.width / 2, placed.y + placed.size.height / 2
    if horizontal:
        return placed.x + (placed.size.width if after else 0.0), middle[1]
    return middle[0], placed.y + (placed.size.height if after else 0.0)
