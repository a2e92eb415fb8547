"""Measure what `from airflow_zen import ml_step` adds to the parse of a DAG file that uses Airflow's own decorators.

Each round starts a fresh interpreter, imports what every DAG file imports, and times the one line more.
Prints the median, beside the time of `from airflow.sdk import dag, task` itself. Rounds: 15 (`--rounds`).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

PROBE = """
import time
start = time.perf_counter()
from airflow.sdk import dag, task
import airflow.providers.standard.decorators.python
airflow = time.perf_counter() - start
start = time.perf_counter()
from airflow_zen import Output, ml_step
Output, ml_step
print(airflow, time.perf_counter() - start)
"""


def main() -> None:
    """Probe and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=15)
    rounds = options.parse_args().rounds
    probed = [_probe() for _ in range(rounds + 1)][1:]
    for name, times in zip(("airflow's own", "airflow_zen adds"), zip(*probed, strict=True), strict=True):
        print(f"{name:18} {statistics.median(times) * 1000:8.1f} ms   (median of {rounds})")


def _probe() -> tuple[float, float]:
    text = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    airflow, ours = text.split()[-2:]
    return float(airflow), float(ours)


if __name__ == "__main__":
    main()
