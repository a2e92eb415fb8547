"""Layers of a graph: every edge leads to a later layer, long edges bend in each layer they pass."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_zen.lineage.graph.model import Graph

Pair = tuple[str, str]
Neighbours = Mapping[str, Sequence[str]]

_SWEEPS = 12


@dataclass(frozen=True)
class Layers:
    """Names by layer and place; names that are no node are the bends of the long edge `bends` gives them to."""

    order: tuple[tuple[str, ...], ...]
    bends: Mapping[Pair, tuple[str, ...]]
    before: Neighbours
    after: Neighbours


def layers_of(graph: Graph) -> Layers:
    """Assign layers by the longest way from a source, then order each to avoid crossings."""
    names = [node.id for node in graph.nodes]
    pairs = _forward(names, dict.fromkeys((edge.source, edge.target) for edge in graph.edges))
    rank = _ranks(names, pairs)
    bends = {pair: _bends(pair, rank) for pair in pairs}
    rows: list[list[str]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for name in names:
        rows[rank[name]].append(name)
    for (source, _), chain in bends.items():
        for place, bend in enumerate(chain, rank[source] + 1):
            rows[place].append(bend)
    links = [link for pair, chain in bends.items() for link in _links(pair, chain)]
    before, after = _neighbours(links)
    return Layers(_uncrossed(rows, before, after), {p: chain for p, chain in bends.items() if chain}, before, after)


def _forward(names: Sequence[str], pairs: Iterable[Pair]) -> list[Pair]:
    """Leave out the edges that close a cycle, found by walking depth first."""
    targets: dict[str, list[str]] = defaultdict(list)
    for source, target in pairs:
        targets[source].append(target)
    kept: list[Pair] = []
    done: set[str] = set()
    for start in names:
        if start in done:
            continue
        way, open_ = {start}, [(start, iter(targets[start]))]
        while open_:
            name, rest = open_[-1]
            following = next(rest, None)
            if following is None:
                open_.pop()
                way.discard(name)
                done.add(name)
            elif following not in way:
                kept.append((name, following))
                if following not in done:
                    way.add(following)
                    open_.append((following, iter(targets[following])))
    return kept


def _ranks(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, int]:
    """Give each node its layer; a source stands just before the first node that it leads to."""
    before, after = _neighbours(pairs)
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


def _bends(pair: Pair, rank: Mapping[str, int]) -> tuple[str, ...]:
    source, target = pair
    return tuple(f"bend:{source}>{target}#{layer}" for layer in range(rank[source] + 1, rank[target]))


def _links(pair: Pair, chain: Sequence[str]) -> list[Pair]:
    stations = [pair[0], *chain, pair[1]]
    return list(itertools.pairwise(stations))


def _neighbours(pairs: Iterable[Pair]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for source, target in pairs:
        before[target].append(source)
        after[source].append(target)
    return dict(before), dict(after)


def _uncrossed(rows: list[list[str]], before: Neighbours, after: Neighbours) -> tuple[tuple[str, ...], ...]:
    """Sort each layer by where its neighbours stand, forth and back, and keep the order that crosses least."""
    best, fewest = [list(row) for row in rows], _crossings(rows, after)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forth = sweep % 2 == 0
        for row, fixed in _steps(rows, forth):
            place = {name: number for number, name in enumerate(fixed)}
            _sort(row, before if forth else after, place)
        crossings = _crossings(rows, after)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return tuple(map(tuple, best))


def _steps(rows: list[list[str]], forth: bool) -> Iterable[tuple[list[str], list[str]]]:
    ordered = rows if forth else rows[::-1]
    return zip(ordered[1:], ordered, strict=False)


def _sort(row: list[str], neighbours: Neighbours, place: Mapping[str, int]) -> None:
    """Sort by the mean place of the neighbours; a name without any stays where it was."""
    wanted: dict[str, float] = {}
    for number, name in enumerate(row):
        places = [place[other] for other in neighbours.get(name, ()) if other in place]
        wanted[name] = sum(places) / len(places) if places else float(number)
    row.sort(key=lambda name: wanted[name])


def _crossings(rows: Sequence[Sequence[str]], after: Neighbours) -> int:
    """Count the crossings between neighbouring layers as inversions."""
    total = 0
    for row, following in itertools.pairwise(rows):
        place = {name: number for number, name in enumerate(following)}
        ends = [sorted(place[target] for target in after.get(name, ())) for name in row]
        total += _inversions([end for each in ends for end in each], len(following))
    return total


def _inversions(values: Sequence[int], most: int) -> int:
    """Count pairs in the wrong order, with a Fenwick tree."""
    tree = [0] * (most + 1)
    inversions = 0
    for seen, value in enumerate(values):
        not_after, place = 0, value + 1
        while place:
            not_after += tree[place]
            place &= place - 1
        inversions += seen - not_after
        place = value + 1
        while place <= most:
            tree[place] += 1
            place += place & -place
    return inversions
