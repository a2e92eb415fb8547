"""Where the names of a layer stand beside each other: near their neighbours, and never on one another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from airflow_zen.lineage.graph.layers import Layers

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
