"""Measure a prune of a large artifact root on a local S3 server (Ceph): seconds, requests, memory.

Half of the artifacts are outputs of recent step runs, a tenth are versions of names, the rest nobody refers to. Two
prunes are timed, each in a process of its own: the one that finds what is unreferenced, and the one that deletes. Requests are those that
the server counted. Beside them, for scale: one bare listing of the artifacts by boto3. Options: --artifacts 100000.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blake3 import blake3

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from airflow_zen.artifacts.folder import Manifest  # noqa: E402
from airflow_zen.artifacts.ref import (  # noqa: E402
    ArtifactFile,
    ArtifactRef,
    version_path,
)
from airflow_zen.runs.records import StepRunRecords  # noqa: E402
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState  # noqa: E402
from airflow_zen.transports import open_transport  # noqa: E402
from airflow_zen.transports.base import Transport  # noqa: E402
from tests.servers.ceph import ceph  # noqa: E402

PROBE = """
import json, sys, time
from pathlib import Path
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.transports import open_transport
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.materializers.registry import default_registry
from airflow_zen.pruning.collect import prune_stack
from airflow_zen.pruning.retention import DAY, Retention
from airflow_zen.stack import Stack

root, options, days = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
transport = open_transport(root, options)
stack = Stack(ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport),
              clock=lambda: time.time() + days * DAY)

def kilobytes(name):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])

before = kilobytes("VmRSS")
begun, cpu = time.perf_counter(), time.process_time()
report = prune_stack(stack, Retention(older_than=90 * DAY))
print(json.dumps({
    "seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu,
    "added": (kilobytes("VmHWM") - before) / 1024,
    "kept": report.kept.artifacts, "unreferenced": report.unreferenced.artifacts, "deleted": report.deleted.artifacts}))
"""


def main() -> None:
    """Fill a root, prune it twice, and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--artifacts", type=int, default=100_000)
    count = options.parse_args().artifacts
    with tempfile.TemporaryDirectory() as directory, ceph(Path(directory) / "ceph") as server:
        socket = Path(directory) / "ceph" / "run" / "client.rgw.asok"
        root = f"s3://{server.bucket}/bench"
        begun = time.perf_counter()
        _fill(open_transport(root, server.storage_options()), root, count)
        print(f"filled with {count:,} artifacts in {time.perf_counter() - begun:.0f} s", flush=True)
        requests, begun = _requests(socket), time.perf_counter()
        _bare_listing(server)
        listed = _requests(socket) - requests
        print(f"bare listing   {time.perf_counter() - begun:6.1f} s {listed:8,} requests", flush=True)
        for name, days in (("finds", 2.0), ("deletes", 4.0)):
            requests = _requests(socket)
            told = _probe(root, server.storage_options(), days)
            print(
                f"{name:14} {told['seconds']:6.1f} s {_requests(socket) - requests:8,} requests   "
                f"{told['cpu']:.1f} CPU s   {told['added']:.0f} MB added   "
                f"{told['kept']:,} kept, {told['unreferenced']:,} unreferenced, {told['deleted']:,} deleted",
                flush=True,
            )


def _fill(transport: Transport, root: str, count: int) -> None:
    records = StepRunRecords(transport)

    def put(number: int) -> None:
        text = json.dumps(number)
        file = ArtifactFile("value.json", len(text), f"blake3:{blake3(text.encode()).hexdigest()}")
        manifest = Manifest("python.json@1", "builtins.int", (file,), {"value.json": text})
        address = f"artifacts/{manifest.digest[:2]}/{manifest.digest}"
        transport.write(f"{address}/manifest.json", manifest.to_json())
        ref = manifest.ref(f"{root}/{address}")
        if number % 10 < 5:
            records.put(_run(number, ref), delivered=True)
        elif number % 10 == 5:
            countdown = 9_999_999_999_999 - int(time.time() * 1000)
            transport.write(
                f"names/name%2F{number % 100}/versions/{version_path(f'{countdown:013}-{ref.digest[:16]}.json')}", b"{}"
            )

    with ThreadPoolExecutor(32) as pool:
        for _ in pool.map(put, range(count), chunksize=1):
            pass


def _run(number: int, ref: ArtifactRef) -> StepRun:
    run = StepRunId(f"dag_{number % 20}", f"run_{number // 200}", f"task_{number % 200}")
    return StepRun(
        run, StepState.FINISHED, 1.0, 2.0, outputs={"output": ref}, cache=CacheState.MISS, cache_key=ref.digest
    )


def _requests(socket: Path) -> int:
    """Ask the gateway how many requests it has served."""
    command = ["ceph", "--admin-daemon", str(socket), "perf", "dump"]
    counters: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return int(counters["rgw"]["req"])


def _bare_listing(server: Any) -> int:
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=server.bucket, Prefix="bench/artifacts/")
    return sum(len(page.get("Contents", [])) for page in pages)


def _probe(root: str, storage: object, days: float) -> dict[str, float]:
    command = [sys.executable, "-c", PROBE, root, json.dumps(storage), str(days)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
