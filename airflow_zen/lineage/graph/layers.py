"""Layers of a graph: every edge leads to a later layer, long edges bend in each layer they pass."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_zen.lineage.graph.model import Graph

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
