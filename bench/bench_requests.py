"""Count the requests to S3 of a step that computes, and of one that is reused; a count is exact.

The step reads a stored frame and returns another, which has a preview. Its requests pass a proxy before a real S3 server
(moto), which answers none before all that are sent together have come: so it counts how many are waited for one after the
other. Each run has a stack of its own, as a task has.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pandas as pd

from airflow_zen.artifacts import leases
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
from bench.measure import Row, main
from tests.servers.moto import moto
from tests.servers.waves import in_waves

ROWS = {
    "s3_requests_computed": "requests to S3 of a step that reads a frame and returns one, which has a preview",
    "s3_waves_computed": "those of them that are waited for one after the other",
    "s3_requests_hit": "requests to S3 of the same step, reused",
    "s3_waves_hit": "those of them that are waited for one after the other",
}


def rows(_: int) -> Iterator[Row]:
    """Yield the rows."""
    with (
        tempfile.TemporaryDirectory() as directory,
        moto(Path(directory)) as server,
        in_waves(urlsplit(server.endpoint).port or 0) as proxy,
        # The proxy makes a step slow: at its own pace it needs no heartbeat.
        patch.object(leases, "_FIRST_HEARTBEAT", 600.0),
    ):
        storage = server.storage_options()
        storage["client_kwargs"]["endpoint_url"] = proxy.uri
        source = make_stack(server.root, server.storage_options()).save(pd.DataFrame({"a": range(1000)})).ref
        for name, state in (("computed", CacheState.MISS), ("hit", CacheState.HIT)):
            stack = make_stack(server.root, storage)
            proxy.waves.clear()
            begun = StepRun(StepRunId("bench", name, "doubled"), cache=CacheState.MISS)
            arguments = Arguments.bind(doubled, (source.to_wire(),), {})
            run = run_step(Step(doubled, "doubled"), arguments, stack, begun)
            assert run.cache is state, f"The step was {run.cache}, not {state}."
            yield Row(f"s3_requests_{name}", sum(map(len, proxy.waves)), "requests")
            yield Row(f"s3_waves_{name}", len(proxy.waves), "requests")


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of numbers twice as large."""
    return frame * 2


def make_stack(root: str, storage: dict[str, Any]) -> Stack:
    """Return a stack of its own for one run."""
    transport = open_transport(f"{root}/bench", storage)
    return Stack(
        ArtifactStore(f"{root}/bench", transport), default_registry(), StepCache(transport), StepRunRecords(transport)
    )


if __name__ == "__main__":
    main(__doc__, rows, rounds=1)
