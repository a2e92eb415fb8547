"""Measure what lineage in MLflow adds to a step: the same steps with a local MLflow server, and without any.

The two take turns in one process, and each difference is between neighbours, so that load on the machine
weighs on both. Prints the median and 95th percentile of the added milliseconds, and the requests to MLflow:
those that the step waits for, and all. Pairs: 60 (`--pairs`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.lineage.recorder import LineageRecorder, NullRecorder
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers.mlflow_server import mlflow_server

# User code lasts longer than the look-ups that go on meanwhile.
_WORK = 0.1


def work(values: dict, number: int) -> dict:
    time.sleep(_WORK)
    return {**values, "number": number}


def stack_with(lineage: LineageRecorder, root: str) -> Stack:
    transport = open_transport(root, {})
    return Stack(
        ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport), lineage
    )


def seconds(stack: Stack, task: str, number: int) -> float:
    """Run one step of a DAG run that exists; every process of a task begins with a recorder of its own."""
    given = stack.save({"x": 1}, name="bench/source").ref
    arguments = Arguments.bind(work, (given.to_wire(), number), {}, frozenset())
    began = time.perf_counter()
    run_step(
        Step(work, task), arguments, stack, StepRun(StepRunId("bench", "r", f"{task}_{number}"), cache=CacheState.OFF)
    )
    return time.perf_counter() - began


def compare(uri: str, root: str, pairs: int) -> None:
    added, waited, sent = [], [], []
    seconds(
        stack_with(MlflowRecorder(MlflowRest(TrackingServer(uri)), open_transport(root, {}), root), root), "first", 0
    )
    for number in range(pairs):
        rest = MlflowRest(TrackingServer(uri))
        without = seconds(stack_with(NullRecorder(), root), "without", number)
        with_mlflow = seconds(stack_with(MlflowRecorder(rest, open_transport(root, {}), root), root), "with", number)
        added.append(1000 * (with_mlflow - without))
        sent.append(rest.request_count)
        # The parameters are sent, and the parent run is looked at, beside the function.
        waited.append(rest.request_count - 2)
    print(
        f"added by lineage   median {statistics.median(added):.0f} ms, 95 % {sorted(added)[int(0.95 * pairs)]:.0f} ms"
    )
    print(f"requests to MLflow waited for {max(waited)}, in all {max(sent)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    pairs = parser.parse_args().pairs
    with (
        tempfile.TemporaryDirectory() as directory,
        mlflow_server(Path(directory), backend=f"sqlite:///{directory}/mlflow.db") as server,
    ):
        compare(server.uri, str(Path(directory, "root")), pairs)
