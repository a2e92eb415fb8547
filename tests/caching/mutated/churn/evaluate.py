"""Measures and costs of scores."""

import math
from collections import Counter
from itertools import pairwise

from .settings import *

COSTS = {}
LOSS, GAIN = 5.0, 2.0
_EMPTY = {"mean": None}


def cost(name, factor=1):
    def add(function):
        COSTS[name] = lambda scores: round(factor * function(scores), 3)
        return function

    return add


@cost("missed", LOSS)
def missed(scores):
    return sum(1 - score for score in scores if score < SETTINGS.limits[1])


@cost("spread", factor=GAIN)
def spread(scores):
    ordered = sorted(scores)
    return max((after - before for before, after in pairwise(ordered)), default=0)


@cost("entropy")
def entropy(scores):
    counts = Counter(SETTINGS.band(score) for score in scores)
    total = sum(counts.values()) or 1
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def summary(scores, labels):
    if not scores:
        return _EMPTY
    right = [(score >= 0.5) == bool(label) for score, label in zip(scores, labels, strict=True)]
    return {"mean": round(math.fsum(scores) / len(scores), 4), "right": sum(right), "top": max(scores)}
