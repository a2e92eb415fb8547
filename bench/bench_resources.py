"""Measure the processor time of the meter that records what a step uses.

The process has imported pandas and has threads, as a task has. Each round measures a step of nothing, with and without the
meter; the row is the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import pandas as pd

from airflow_zen.steps.resources import ResourceMeter, memory_limit
from bench.measure import Row, in_turn, main, row

ROWS = {"resource_meter_ms": "measuring what a step uses, in a process with pandas and 8 threads; CPU"}
_TIMES, _THREADS = 50, 8


def measure(rounds: int) -> Iterator[Row]:
    """Yield the row."""
    end = Event()
    for _ in range(_THREADS):
        Thread(target=end.wait, daemon=True).start()
    held = pd.DataFrame({"number": range(1_000_000)})
    pairs = in_turn(_with_meter, _without_meter, rounds)
    yield row("resource_meter_ms", [(ours - other) / _TIMES * 1000 for ours, other in pairs], "ms")
    end.set()
    del held


def _with_meter() -> None:
    for _ in range(_TIMES):
        # A task is a process of its own, and looks it up once.
        memory_limit.cache_clear()
        meter = ResourceMeter().start()
        _step()
        meter.stop()


def _without_meter() -> None:
    for _ in range(_TIMES):
        _step()


def _step() -> int:
    return sum(range(1000))


if __name__ == "__main__":
    main(__doc__, measure, rounds=30)
