"""Measure what deciding a cache hit costs on a real S3 store (Ceph's gateway), with few and with many entries in the cache.

Each round is a fresh process, as a task is: it has loaded the DAG file, and times opening the store (`open`) and planning
the step (`plan`: making the key, reading the entry, and looking for its artifacts); `cpu` is the processor time of both. Rounds: 20 (`--rounds`); entries: 100 and 100,000 (`--entries`).
The bare task's share is what such a process does without: nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from airflow_zen.transports import open_transport  # noqa: E402
from airflow_zen.transports.base import Transport  # noqa: E402
from tests.servers.ceph import ceph  # noqa: E402

PROBE = """
import json, sys, time
import airflow.sdk
from airflow_zen import Output, ml_step

RATE = 3

@ml_step
def split(rows: int, names: list) -> Output(train=list, test=list, rest=dict):
    return [rows * RATE], [rows], {"names": names}

def main(root, options):
    begun, spent = time.perf_counter(), time.process_time()
    from airflow_zen.artifacts.store import ArtifactStore
    from airflow_zen.transports import open_transport
    from airflow_zen.caching.step_cache import StepCache
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
    from airflow_zen.materializers.registry import default_registry
    from airflow_zen.stack import Stack
    from airflow_zen.steps.arguments import Arguments
    from airflow_zen.steps.cache_key import plan_step
    from airflow_zen.steps.run import run_step
    from airflow_zen.steps.step import Step
    transport = open_transport(root, options)
    stack = Stack(ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport))
    step = Step(split.function, "split")
    arguments = Arguments.bind(step.function, (5, ["a", "b"]), {})
    run = StepRun(StepRunId("d", "r", "t"), cache=CacheState.MISS)
    opened = time.perf_counter()
    plan = plan_step(step, arguments, stack, run)
    planned, cpu = time.perf_counter(), time.process_time() - spent
    if plan.entry is None:
        run_step(step, arguments, stack, run)
    print(json.dumps({"hit": plan.entry is not None, "open": opened - begun, "plan": planned - opened,
                      "all": planned - begun, "cpu": cpu}))

main(sys.argv[1], json.loads(sys.argv[2]))
"""


def main() -> None:
    """Fill, probe and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--entries", type=int, nargs="+", default=[100, 100_000])
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory, ceph(Path(directory) / "ceph") as server:
        probe = Path(directory) / "probe.py"
        probe.write_text(PROBE)
        root, storage = f"s3://{server.bucket}/bench", server.storage_options()
        transport, present = open_transport(root, storage), 0
        for entries in chosen.entries:
            _fill(transport, entries - present)
            present = entries
            _probe(probe, root, storage)
            rounds = [_probe(probe, root, storage) for _ in range(chosen.rounds)]
            assert all(each["hit"] for each in rounds)
            told = [
                f"{part} {statistics.median(each[part] for each in rounds) * 1000:6.1f} ms"
                for part in rounds[0]
                if part != "hit"
            ]
            print(f"{entries:9,} entries: {'   '.join(told)}   (median of {chosen.rounds})", flush=True)


def _fill(transport: Transport, count: int) -> None:
    """Put entries that nobody asks for into the cache, as a year of runs does."""

    def write(_: int) -> None:
        key = uuid.uuid4().hex * 2
        transport.write(f"cache/{key[:2]}/{key}.json", b'{"airflow_zen": 1}' + b" " * 2000)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(count)))


def _probe(probe: Path, root: str, storage: object) -> dict[str, float]:
    command = [sys.executable, str(probe), root, json.dumps(storage)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
