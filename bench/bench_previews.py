"""Measure what previews add to a step: with and without them in turn, on a local root, with a real MLflow server.

Prints the median wall time of whole steps (`run_step`, not cached), and how long making the preview takes
by itself. Steps of each kind: 15 (`--steps`).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from msgspec.structs import replace

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport
from tests.servers.mlflow_server import mlflow_server


def frame(rows: int) -> pd.DataFrame:
    """Make a table of eight numbers, a whole number and a name."""
    rng = np.random.default_rng(time.perf_counter_ns())
    numbers = {f"x{at}": rng.normal(size=rows) for at in range(8)}
    return pd.DataFrame(
        {**numbers, "n": rng.integers(0, 100, rows), "name": rng.choice(["red", "green", "blue"], rows)}
    )


def returns(rows: int) -> Callable[[], pd.DataFrame]:
    """Return a step's function."""

    def make() -> pd.DataFrame:
        return frame(rows)

    return make


def seconds(stack: Stack, rows: int, number: int) -> float:
    """Run one step, and tell how long it took."""
    function = returns(rows)
    begun = StepRun(StepRunId("bench", "r", f"t{rows}", number), cache=CacheState.OFF)
    started = time.perf_counter()
    run_step(Step(function, "make"), Arguments.bind(function, (), {}), stack, begun)
    return time.perf_counter() - started


def alone(stack: Stack, value: Any, number: int) -> float:
    """Return the median seconds of making a preview, without the save."""
    saved, taken = stack.save(value), []
    for _ in range(number):
        started = time.perf_counter()
        stack.preview(value, saved)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    """Run both kinds in turn and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=15)
    number = options.parse_args().steps
    with (
        tempfile.TemporaryDirectory() as directory,
        mlflow_server(Path(directory), backend=f"sqlite:///{directory}/mlflow.db") as server,
    ):
        root = str(Path(directory, "root"))
        transport = open_transport(root, {})
        recorder = MlflowRecorder(MlflowRest(TrackingServer(server.uri)), transport, root)
        store = ArtifactStore(root, transport)
        shown = Stack(store, default_registry(), StepCache(transport), StepRunRecords(transport), recorder)
        print(f"{'rows':>9} {'without':>9} {'with':>9} {'difference':>11} {'preview alone':>14}   (median ms)")
        for rows in (1_000, 100_000, 1_000_000):
            taken: dict[bool, list[float]] = {False: [], True: []}
            for at in range(2 * number + 2):
                with_previews = bool(at % 2)
                taken[with_previews].append(seconds(replace(shown, previews=with_previews), rows, at))
            before, after = (statistics.median(taken[kind][1:]) * 1e3 for kind in (False, True))
            own = alone(shown, frame(rows), 5) * 1e3
            print(f"{rows:9} {before:9.1f} {after:9.1f} {after - before:11.1f} {own:14.1f}", flush=True)


if __name__ == "__main__":
    main()
