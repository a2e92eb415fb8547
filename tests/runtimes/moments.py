"""When tests kill: at four moments in the suite, and at ten on demand."""

from __future__ import annotations

import os
import random

KILLS = 10 if os.environ.get("ZEN_ALL_KILLS") else 4


def moments(earliest: float, latest: float, seed: int) -> list[float]:
    """Return seconds at which to kill: one at random in each of `KILLS` equal parts of the time, in their order."""
    part, numbers = (latest - earliest) / KILLS, random.Random(seed)
    return [earliest + part * (number + numbers.random()) for number in range(KILLS)]
