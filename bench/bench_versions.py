"""Measure how long the newest version of a name takes on a real S3 store (Ceph's gateway), with few and with many versions.

Each round finds the newest version's key, then the newest at or before a time in the middle, then makes a new version
(one LIST, one PUT); `local` is the same on a local root, where a few folders are looked through. Rounds: 50 (`--rounds`);
versions: 100 and 100,000 (`--versions`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from airflow_zen.artifacts.named_artifacts import VersionIndex  # noqa: E402
from airflow_zen.artifacts.ref import (  # noqa: E402
    ArtifactRef,
    object_name,
    version_path,
)
from airflow_zen.artifacts.store import ArtifactStore  # noqa: E402
from airflow_zen.transports import open_transport  # noqa: E402
from airflow_zen.transports.base import Transport  # noqa: E402
from tests.servers.ceph import ceph  # noqa: E402

BEGIN = 1_700_000_000_000


def main() -> None:
    """Fill, measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=50)
    options.add_argument("--versions", type=int, nargs="+", default=[100, 100_000])
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory, ceph(Path(directory) / "ceph") as server:
        roots = {"s3": (f"s3://{server.bucket}/bench", server.storage_options()), "local": (f"{directory}/root", {})}
        for kind, (root, storage) in roots.items():
            transport = open_transport(root, storage)
            names = VersionIndex(ArtifactStore(root, transport))
            for versions in chosen.versions:
                fill(transport, f"bench-{versions}", versions)
                measure(kind, names, f"bench-{versions}", versions, chosen.rounds)


def fill(transport: Transport, name: str, versions: int) -> None:
    """Write versions, one a minute."""
    names = (object_name(BEGIN + n * 60_000, f"{n:016x}") for n in range(versions))
    keys = [f"names/{name}/versions/{version_path(each)}" for each in names]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: transport.write(key, b"{}"), keys))


def measure(kind: str, names: VersionIndex, name: str, versions: int, rounds: int) -> None:
    """Print medians in milliseconds."""
    middle = datetime.fromtimestamp((BEGIN + versions // 2 * 60_000) / 1000, UTC)
    refs = iter(
        ArtifactRef(f"{n:064x}", "", "python.json@1", "builtins.int", 1) for n in range(1 << 200, (1 << 200) + rounds)
    )
    steps: dict[str, Callable[[], object]] = {
        "newest": lambda: names.find_key(name),
        "at a time": lambda: names.find_key(name, middle),
        "new version": lambda: names.add(name, next(refs), time.time()),
    }
    told = [f"{step} {median(work, rounds):.1f} ms" for step, work in steps.items()]
    print(f"{kind}, {versions} versions: {', '.join(told)}", flush=True)


def median(work: Callable[[], object], rounds: int) -> float:
    """Time some work, in milliseconds."""
    spent = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        spent.append((time.perf_counter() - begun) * 1000)
    return statistics.median(spent)


if __name__ == "__main__":
    main()
