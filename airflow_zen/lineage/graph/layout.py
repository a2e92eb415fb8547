"""Where nodes and edges go: layers in the order of flow (Sugiyama, Tagawa, Toda 1981), few crossings, straight edges."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_zen.lineage.graph.model import Edge, Graph, Node

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


Pair = tuple[str, str]
Neighbors = Mapping[str, Sequence[str]]

_SWEEPS = 12


@dataclass(frozen=True)
class Layers:
    """Names by layer and place; names that are no node are the bends of the long edge `bends` gives them to."""

    order: tuple[tuple[str, ...], ...]
    bends: Mapping[Pair, tuple[str, ...]]
    before: Neighbors
    after: Neighbors


def assign_layers(graph: Graph) -> Layers:
    """Assign layers by the longest way from a source, then order each to avoid crossings."""
    names = [node.id for node in graph.nodes]
    pairs = _without_back_edges(names, dict.fromkeys((edge.source, edge.target) for edge in graph.edges))
    rank = _assign_ranks(names, pairs)
    bends = {pair: _bend_names(pair, rank) for pair in pairs}
    rows: list[list[str]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for name in names:
        rows[rank[name]].append(name)
    for (source, _), chain in bends.items():
        for position, bend in enumerate(chain, rank[source] + 1):
            rows[position].append(bend)
    links = [link for pair, chain in bends.items() for link in _segments(pair, chain)]
    before, after = _neighbor_maps(links)
    return Layers(
        _reduce_crossings(rows, before, after), {p: chain for p, chain in bends.items() if chain}, before, after
    )


def _without_back_edges(names: Sequence[str], pairs: Iterable[Pair]) -> list[Pair]:
    """Leave out the edges that close a cycle, found by walking depth first."""
    targets: dict[str, list[str]] = defaultdict(list)
    for source, target in pairs:
        targets[source].append(target)
    kept: list[Pair] = []
    done: set[str] = set()
    for start in names:
        if start in done:
            continue
        path, open_ = {start}, [(start, iter(targets[start]))]
        while open_:
            name, rest = open_[-1]
            following = next(rest, None)
            if following is None:
                open_.pop()
                path.discard(name)
                done.add(name)
            elif following not in path:
                kept.append((name, following))
                if following not in done:
                    path.add(following)
                    open_.append((following, iter(targets[following])))
    return kept


def _assign_ranks(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, int]:
    """Give each node its layer; a source stands just before the first node that it leads to."""
    before, after = _neighbor_maps(pairs)
    rank: dict[str, int] = {}
    waiting = {name: len(before.get(name, ())) for name in names}
    ready = [name for name in names if not waiting[name]]
    for name in ready:
        rank[name] = max((rank[source] + 1 for source in before.get(name, ())), default=0)
        for target in after.get(name, ()):
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    for name in names:
        if not before.get(name) and after.get(name):
            rank[name] = min(rank[target] for target in after[name]) - 1
    return rank


def _bend_names(pair: Pair, rank: Mapping[str, int]) -> tuple[str, ...]:
    source, target = pair
    return tuple(f"bend:{source}>{target}#{layer}" for layer in range(rank[source] + 1, rank[target]))


def _segments(pair: Pair, chain: Sequence[str]) -> list[Pair]:
    stations = [pair[0], *chain, pair[1]]
    return list(itertools.pairwise(stations))


def _neighbor_maps(pairs: Iterable[Pair]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for source, target in pairs:
        before[target].append(source)
        after[source].append(target)
    return dict(before), dict(after)


def _reduce_crossings(rows: list[list[str]], before: Neighbors, after: Neighbors) -> tuple[tuple[str, ...], ...]:
    """Sort each layer by where its neighbours stand, forth and back, and keep the order that crosses least."""
    best, fewest = [list(row) for row in rows], _count_crossings(rows, after)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forward = sweep % 2 == 0
        for row, fixed in _adjacent_layers(rows, forward):
            position = {name: number for number, name in enumerate(fixed)}
            _sort_by_barycenter(row, before if forward else after, position)
        crossings = _count_crossings(rows, after)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return tuple(map(tuple, best))


def _adjacent_layers(rows: list[list[str]], forward: bool) -> Iterable[tuple[list[str], list[str]]]:
    ordered = rows if forward else rows[::-1]
    return zip(ordered[1:], ordered, strict=False)


def _sort_by_barycenter(row: list[str], neighbors: Neighbors, position: Mapping[str, int]) -> None:
    """Sort by the mean place of the neighbours; a name without any stays where it was."""
    barycenters: dict[str, float] = {}
    for number, name in enumerate(row):
        places = [position[other] for other in neighbors.get(name, ()) if other in position]
        barycenters[name] = sum(places) / len(places) if places else float(number)
    row.sort(key=lambda name: barycenters[name])


def _count_crossings(rows: Sequence[Sequence[str]], after: Neighbors) -> int:
    """Count the crossings between neighbouring layers as inversions."""
    total = 0
    for row, following in itertools.pairwise(rows):
        position = {name: number for number, name in enumerate(following)}
        ends = [sorted(position[target] for target in after.get(name, ())) for name in row]
        total += _count_inversions([end for each in ends for end in each], len(following))
    return total


def _count_inversions(values: Sequence[int], max_value: int) -> int:
    """Count pairs in the wrong order, with a Fenwick tree."""
    tree = [0] * (max_value + 1)
    inversions = 0
    for seen, value in enumerate(values):
        not_after, position = 0, value + 1
        while position:
            not_after += tree[position]
            position &= position - 1
        inversions += seen - not_after
        position = value + 1
        while position <= max_value:
            tree[position] += 1
            position += position & -position
    return inversions


_PASSES = 80


def assign_coordinates(layers: Layers, breadth: Mapping[str, float], gap: float) -> dict[str, float]:
    """Give the centre of every name across the flow, the smallest border at 0."""
    centers: dict[str, float] = {}
    for layer in layers.order:
        offset = 0.0
        for name in layer:
            centers[name] = offset + breadth[name] / 2
            offset += breadth[name] + gap
    for number in range(_PASSES):
        forward = number % 2 == 0
        for layer in layers.order if forward else layers.order[::-1]:
            preferred = [_preferred_center(name, layers, centers, number, forward) for name in layer]
            centers.update(zip(layer, _separate(preferred, [breadth[name] for name in layer], gap), strict=True))
    first = min((center - breadth[name] / 2 for name, center in centers.items()), default=0.0)
    return {name: center - first for name, center in centers.items()}


def _preferred_center(name: str, layers: Layers, centers: Mapping[str, float], number: int, forward: bool) -> float:
    """Give the mean of the neighbours: of those before and after by turns, of both in the last passes."""
    before, after = layers.before.get(name, ()), layers.after.get(name, ())
    near = [*before, *after] if number >= _PASSES - 40 else (before if forward else after) or (*before, *after)
    return sum(centers[other] for other in near) / len(near) if near else centers[name]


def _separate(preferred: Sequence[float], breadths: Sequence[float], gap: float) -> list[float]:
    """Move as little as possible so that all keep their order and distance (isotonic regression by pooling)."""
    offsets = [0.0]
    for left, right in itertools.pairwise(breadths):
        offsets.append(offsets[-1] + (left + right) / 2 + gap)
    pools: list[tuple[float, int]] = []
    for value, offset in zip(preferred, offsets, strict=False):
        mean, count = value - offset, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    levels = [mean for mean, count in pools for _ in range(count)]
    return [level + offset for level, offset in zip(levels, offsets, strict=False)]
