"""Measure how long the key of the newest version of a name takes on a local root with 100,000 versions, one a minute."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator

from airflow_zen.artifacts.named_artifacts import VersionIndex
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.transports import open_transport
from bench.bench_versions import fill
from bench.measure import Row, main, row, seconds

ROWS = {"newest_local_100k_ms": "the key of the newest of 100,000 versions of a name, on a local root"}


def measure(rounds: int) -> Iterator[Row]:
    """Fill a root and look."""
    with tempfile.TemporaryDirectory() as directory:
        transport = open_transport(directory, {})
        names = VersionIndex(ArtifactStore(directory, transport))
        fill(transport, "bench", 100_000)
        spent = [seconds(lambda: names.find_key("bench"), time.perf_counter) * 1000 for _ in range(rounds)]
        yield row("newest_local_100k_ms", spent, "ms")


if __name__ == "__main__":
    main(__doc__, measure, rounds=50)
