"""Stacks on a local root and on a real S3 store, and a clock that can be moved forward."""

import itertools
import time

import pytest
from msgspec.structs import replace

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.registry import default_registry
from airflow_zen.pruning.collect import prune_stack
from airflow_zen.pruning.retention import DAY, Retention
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport


def stack_at(root, options=None, **parts):
    transport = open_transport(root, options or {})
    return Stack(
        ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport), **parts
    )


@pytest.fixture
def stack(tmp_path):
    return stack_at(str(tmp_path / "root"))


@pytest.fixture
def run():
    """Run a function as a step of a DAG run; return its finished record."""
    tries = itertools.count(1)

    def run_function(stack, function, *args, dag="d", dag_run="r", cache=CacheState.MISS):
        begun = StepRun(StepRunId(dag, dag_run, function.__name__, -1, next(tries)), cache=cache)
        return run_step(Step(function, function.__name__), Arguments.bind(function, args, {}), stack, begun)

    return run_function


@pytest.fixture
def prune_after():
    """Prune with the clock moved forward by some days."""

    def prune_later(stack, days, dry_run=False, unfinished=(), **retention):
        later = replace(stack, clock=lambda: time.time() + days * DAY)
        return prune_stack(later, Retention(**retention), unfinished, dry_run=dry_run)

    return prune_later


@pytest.fixture
def prune_twice(prune_after):
    """Prune twice, so that the artifacts found unreferenced first are deleted."""

    def twice(stack, days, **retention):
        prune_after(stack, days, **retention)
        return prune_after(stack, days + 2, **retention)

    return twice
