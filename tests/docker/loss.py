"""A DAG run that loses a worker, and its result."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from redis import Redis

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import CacheEntry, StepCache
from airflow_zen.localstack.services import request_json
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun
from airflow_zen.stack import Stack
from airflow_zen.transports import open_transport
from airflow_zen.transports.base import Transport
from tests.docker.machine import power_off
from tests.docker.up import RunningServices
from tests.servers.airflow_api import AirflowApi, DagRun, TaskInstance

ROOT = "s3://artifacts/production"
# Where the worker to be lost is held: with a part that is still computed, and one that is stored and not reported.
BLOCKED_KEYS = ("stays called", "stays stored")


@dataclass(frozen=True)
class WorkerEvent:
    """A record of user code: it was `called`, or its result was `stored`; `at` in seconds."""

    event: str
    number: int
    worker: str
    at: float


@dataclass(frozen=True)
class WorkerLoss:
    """The state when the worker had died: its processes, and the parts with a cached result."""

    worker: str
    at: float
    processes: int
    remembered: frozenset[int]


@dataclass(frozen=True)
class ScenarioResult:
    """The result of the run after its end."""

    count: int
    run: DagRun
    seconds: float
    loss: WorkerLoss
    events: Sequence[WorkerEvent]
    tasks: Sequence[TaskInstance]
    records: Sequence[StepRun]
    result: Mapping[str, float]

    def calls(self, number: int) -> list[WorkerEvent]:
        """List the calls of one part's function."""
        return [told for told in self.events if told.event == "called" and told.number == number]

    @property
    def shares(self) -> dict[str, int]:
        """Count the calls of each worker."""
        return dict(Counter(told.worker for told in self.events if told.event == "called"))

    @property
    def computed_again(self) -> list[int]:
        """Name the parts called more than once: what the lost worker had begun and not stored."""
        return [number for number in range(self.count) if len(self.calls(number)) > 1]

    @property
    def wasted(self) -> list[int]:
        """Name the parts that were called once more although their result was remembered: there must be none."""
        later = {told.number for told in self.events if told.event == "called" and told.at > self.loss.at}
        return sorted(later & self.loss.remembered)

    @property
    def unrecorded(self) -> list[WorkerEvent]:
        """List the calls that the worker's death ended before they could be recorded."""
        recorded = {record.id.map_index for record in self.records if record.id.try_number == 1}
        return [told for number in range(self.count) if number not in recorded for told in self.calls(number)[:-1]]

    @property
    def retried(self) -> list[TaskInstance]:
        """List the parts that Airflow brought back."""
        return [task for task in self.tasks if task.task_id == "part" and task.try_number > 1]

    @property
    def hits(self) -> list[int]:
        """Name the parts that found the lost worker's result."""
        return sorted(record.id.map_index for record in self.records if record.cache == "hit")


def expected(count: int) -> dict[str, float]:
    """Compute the expected result in plain Python."""
    parts = [np.random.default_rng(number).standard_normal(10_000) for number in range(count)]
    return {"parts": float(count), "sum": float(sum(part.sum() for part in parts))}


class WorkerLossScenario:
    """Run `parts_<count>` on the stack, and kill a worker that has both a stored part and a part without a result."""

    def __init__(self, stack: RunningServices, secrets: Path, api: AirflowApi, victim: str) -> None:
        self.stack, self.api, self.victim = stack, api, victim
        url = stack.paths.translate((secrets / "celery_broker_url").read_text(), stack.services["redis"])
        self.redis = Redis.from_url(url, db=1)
        self.transport = _transport(stack, secrets)
        self.zen = Stack(
            store=ArtifactStore(ROOT, self.transport),
            materializers=default_registry(),
            cache=StepCache(self.transport),
            records=StepRunRecords(self.transport),
        )

    def run(self, count: int, timeout: float) -> ScenarioResult:
        """Do it; timeout: seconds until the run must have ended."""
        dag_id = f"parts_{count}"
        self.redis.delete("told", "victim", *BLOCKED_KEYS)
        self.api.wait_for_dag(dag_id, timeout=300)
        self.api.unpause(dag_id)
        begun = time.time()
        run = self.api.trigger(dag_id)
        self._wait(lambda: len(self._call_events()) >= count / 3, begun + timeout / 2)
        self.redis.set("victim", self.victim)
        self._wait(lambda: self.redis.exists(*BLOCKED_KEYS) == len(BLOCKED_KEYS), begun + timeout / 2)
        loss = self._kill_worker(run)
        self.redis.delete("victim")
        run = self.api.wait_for_dag_run(run, timeout)
        seconds = time.time() - begun
        tasks = self.api.task_instances(run)
        records = list(self.zen.records.read_dag_run(run.dag_id, run.run_id))
        return ScenarioResult(count, run, seconds, loss, self.events(), tasks, records, self._result(run, tasks))

    def events(self) -> list[WorkerEvent]:
        """Read what user code wrote down."""
        return [WorkerEvent(**json.loads(line)) for line in self.redis.lrange("told", 0, -1)]

    def _call_events(self) -> list[WorkerEvent]:
        return [told for told in self.events() if told.event == "called"]

    def _kill_worker(self, run: DagRun) -> WorkerLoss:
        processes = power_off(self.stack.processes[self.victim])
        at = time.time()
        return WorkerLoss(self.victim, at, processes, frozenset(self._cached_parts(run)))

    def _cached_parts(self, run: DagRun) -> Iterable[int]:
        """Name the parts of the run whose results are in the cache."""
        mine = f"{run.dag_id}/{run.run_id}/part/"
        for key in self.transport.list("cache"):
            if key.endswith(".json") and (origin := _origin(self.transport.read(key))).startswith(mine):
                yield int(origin.removeprefix(mine).split("/")[0])

    def _result(self, run: DagRun, tasks: Sequence[TaskInstance]) -> dict[str, float]:
        (total,) = (task for task in tasks if task.task_id == "total")
        wire = self.api.xcom(run, total)
        if not wire:
            return {}
        with TemporaryDirectory() as into:
            return dict(self.zen.load(ArtifactRef.from_wire(wire), Path(into)))

    def _wait(self, true: Callable[[], bool], deadline: float) -> None:
        while not true():
            assert time.time() < deadline, [self.stack.tail(name) for name in ("scheduler", self.victim)]
            time.sleep(0.05)


def count_mlflow_runs(stack: RunningServices, run: DagRun, timeout: float = 240) -> dict[str, int]:
    """Count the run's MLflow runs by task and end state, once its parent has ended."""
    url = stack.paths.url("mlflow")
    found = request_json("GET", f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=airflow%2F{run.dag_id}")
    asked = {
        "experiment_ids": [found["experiment"]["experiment_id"]],
        "filter": f"tags.`zen.run_id` = '{run.run_id}'",
        "max_results": 1000,
    }
    deadline = time.monotonic() + timeout
    while True:
        counts: Counter[str] = Counter()
        for one in request_json("POST", f"{url}/api/2.0/mlflow/runs/search", asked).get("runs", []):
            tags = {tag["key"]: tag["value"] for tag in one["data"]["tags"]}
            kind = tags.get("zen.task_id") or tags.get("zen.kind", "")
            counts[f"{kind} {one['info']['status']}"] += 1
        if counts and not any("RUNNING" in name for name in counts):
            return dict(counts)
        if time.monotonic() > deadline:
            raise AssertionError(f"{dict(counts)}\n{stack.tail('scheduler')}")
        time.sleep(0.5)


def _origin(text: bytes) -> str:
    try:
        return CacheEntry.from_json(text).origin
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _transport(stack: RunningServices, secrets: Path) -> Transport:
    options: dict[str, Any] = {
        "key": "airflow",
        "secret": (secrets / "s3_airflow_key").read_text(),
        "client_kwargs": {"endpoint_url": stack.paths.url("s3"), "region_name": "us-east-1"},
    }
    return open_transport(ROOT, options)
