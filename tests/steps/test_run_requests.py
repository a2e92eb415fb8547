"""Promises of how many requests a step sends to S3, and how many of them it waits for one after the other."""

import itertools
from urllib.parse import urlsplit

import pandas as pd
import pytest

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport
from tests.servers.waves import in_waves

pytestmark = [pytest.mark.slow]


def number(x: int) -> int:
    return x + 1


def doubled(value: int) -> int:
    return value * 2


def larger(frame: pd.DataFrame) -> pd.DataFrame:
    return frame * 2


@pytest.fixture(scope="module")
def proxy(moto):
    with in_waves(urlsplit(moto.endpoint).port) as running:
        yield running


@pytest.fixture
def new_stack(moto, proxy, tmp_path):
    """Return a function that opens the stack anew, as each task does, at the proxy or at the server itself."""
    root = f"{moto.root}/{tmp_path.name}"

    def open_stack(*, counted=True):
        options = moto.storage_options()
        if counted:
            options["client_kwargs"]["endpoint_url"] = proxy.uri
        transport = open_transport(root, options)
        return Stack(
            ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport)
        )

    return open_stack


@pytest.fixture
def requests_of(new_stack, proxy, monkeypatch):
    """Run a function as a step; return how it used the cache, its requests, and those that were waited for in sequence."""
    # The proxy makes a step slow; its lease needs no heartbeat before a second.
    monkeypatch.setattr("airflow_zen.artifacts.leases._FIRST_HEARTBEAT", 600.0)
    monkeypatch.setattr("airflow_zen.artifacts.leases.LeaseStore.heartbeat", 600.0, raising=False)
    tries = itertools.count(1)

    def run_function(function, argument, cache=CacheState.MISS):
        stack = new_stack()
        proxy.waves.clear()
        begun = StepRun(StepRunId("d", "r", function.__name__, -1, next(tries)), cache=cache, why="cleared")
        run = run_step(Step(function, function.__name__), Arguments.bind(function, (argument,), {}), stack, begun)
        return run.cache, sum(map(len, proxy.waves)), len(proxy.waves)

    return run_function


def test_a_step_without_artifacts_as_input(requests_of):
    """A computed step sends 10 requests in 4 waves, a reused one 4 in 3, and one that is computed again 7 in 3."""
    assert requests_of(number, 1) == ("miss", 10, 4)
    assert requests_of(number, 1) == ("hit", 4, 3)
    assert requests_of(number, 1, CacheState.RECOMPUTE) == ("miss", 7, 3)


def test_a_step_that_reads_an_artifact(requests_of, new_stack):
    """A small input costs one request, which is sent beside that for the lease."""
    ref = new_stack(counted=False).save(20).ref
    assert requests_of(doubled, ref.to_wire()) == ("miss", 11, 4)
    assert requests_of(doubled, ref.to_wire()) == ("hit", 4, 3)


def test_a_step_of_a_frame(requests_of, new_stack):
    """The file of an output costs a request and a wave of its own, its preview a request."""
    ref = new_stack(counted=False).save(pd.DataFrame({"a": range(1000)})).ref
    assert requests_of(larger, ref.to_wire()) == ("miss", 13, 5)
    assert requests_of(larger, ref.to_wire()) == ("hit", 4, 3)
