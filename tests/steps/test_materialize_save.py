"""Promises of storing what a step returned."""

import itertools
import re
from typing import Annotated

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.outputs import Each
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport
from tests.servers.moto import moto

COUNT = 300


def many() -> Annotated[list[dict], Each]:
    return [{"n": n} for n in range(COUNT)]


def total(values: list[dict]) -> int:
    return sum(value["n"] for value in values)


def execute(stack, function, *arguments):
    begun = StepRun(StepRunId("d", "r", function.__name__, -1, 1), cache=CacheState.OFF, why="asked")
    return run_step(Step(function, function.__name__), Arguments.bind(function, arguments, {}), stack, begun)


def test_many_small_artifacts_cost_a_request_each(tmp_path):
    """Of 300 small artifacts each is one write, and one read in the step that reads them."""
    with moto(tmp_path) as server:
        transport = open_transport(server.root, server.storage_options())
        stack = Stack(
            # What a slow machine takes longer for than a look for prunes lasts would need another.
            ArtifactStore(server.root, transport, clock=lambda: 1_000.0),
            default_registry(),
            StepCache(transport),
            StepRunRecords(transport),
            clock=itertools.count(1_000.0).__next__,
        )
        made = execute(stack, many)
        read = execute(stack, total, [ref.to_wire() for ref in made.outputs.values()])
        log = "".join(path.read_text("utf-8", "replace") for path in tmp_path.glob("*.out"))
    requests = re.findall(r'"(PUT|GET|HEAD|POST|DELETE) /\S*artifacts/', log)
    assert (requests.count("PUT"), requests.count("GET")) == (COUNT + 1, COUNT)
    assert len(requests) == 2 * COUNT + 1
    assert read.outputs["output"].size == len(str(sum(range(COUNT))))
