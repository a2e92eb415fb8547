"""Measure what `from airflow_zen import ml_step` adds to the parse of a DAG file that uses Airflow's own decorators.

Each round starts a fresh interpreter, imports what every DAG file imports, and times the one line more, in wall time.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.measure import Row, main, row, run_python

ROWS = {
    "front_door_ms": "`from airflow_zen import ml_step` in a DAG file that imports Airflow's own decorators",
    "front_door_modules": "modules that this imports",
}

PROBE = """
import sys, time
from airflow.sdk import dag, task
import airflow.providers.standard.decorators.python
known, start = len(sys.modules), time.perf_counter()
from airflow_zen import Output, ml_step
Output, ml_step
print((time.perf_counter() - start) * 1000, len(sys.modules) - known)
"""


def rows(rounds: int) -> Iterator[Row]:
    """Yield the rows."""
    probed = [run_python(PROBE)[0][-2:] for _ in range(rounds)]
    yield row("front_door_ms", [float(taken) for taken, _ in probed], "ms")
    yield Row("front_door_modules", int(probed[0][1]), "modules")


if __name__ == "__main__":
    main(__doc__, rows, rounds=9)
