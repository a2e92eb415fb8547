"""Where the names of a layer stand beside each other: near their neighbours, and never on one another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from airflow_zen.lineage.graph.layers import Layers

_PASSES = 80


def spread(layers: Layers, breadth: Mapping[str, float], beside: float) -> dict[str, float]:
    """Give the centre of every name across the flow, the smallest border at 0."""
    centres: dict[str, float] = {}
    for layer in layers.order:
        offset = 0.0
        for name in layer:
            centres[name] = offset + breadth[name] / 2
            offset += breadth[name] + beside
    for number in range(_PASSES):
        forth = number % 2 == 0
        for layer in layers.order if forth else layers.order[::-1]:
            wanted = [_wanted(name, layers, centres, number, forth) for name in layer]
            centres.update(zip(layer, _apart(wanted, [breadth[name] for name in layer], beside), strict=True))
    first = min((centre - breadth[name] / 2 for name, centre in centres.items()), default=0.0)
    return {name: centre - first for name, centre in centres.items()}


def _wanted(name: str, layers: Layers, centres: Mapping[str, float], number: int, forth: bool) -> float:
    """Give the mean of the neighbours: of those before and after by turns, of both in the last passes."""
    before, after = layers.before.get(name, ()), layers.after.get(name, ())
    near = [*before, *after] if number >= _PASSES - 40 else (before if forth else after) or (*before, *after)
    return sum(centres[other] for other in near) / len(near) if near else centres[name]


def _apart(wanted: Sequence[float], breadths: Sequence[float], beside: float) -> list[float]:
    """Move as little as possible so that all keep their order and distance (isotonic regression by pooling)."""
    offsets = [0.0]
    for left, right in itertools.pairwise(breadths):
        offsets.append(offsets[-1] + (left + right) / 2 + beside)
    pools: list[tuple[float, int]] = []
    for value, offset in zip(wanted, offsets, strict=False):
        mean, count = value - offset, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    levels = [mean for mean, count in pools for _ in range(count)]
    return [level + offset for level, offset in zip(levels, offsets, strict=False)]
