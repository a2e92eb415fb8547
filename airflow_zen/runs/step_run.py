"""The record of one execution of a step, and of the end of a DAG run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict

from airflow_zen.artifacts.ref import ArtifactRef, RecordedVersion
from airflow_zen.json_records import convert_record

if TYPE_CHECKING:
    from airflow_zen.artifacts.leases import SuspendedLease


class StepState(StrEnum):
    """The state of a step run, in MLflow's words."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class CacheState(StrEnum):
    """How a step run used the cache."""

    HIT = "hit"
    """The outputs of an earlier run were reused."""
    MISS = "miss"
    """The function was called, and its outputs were remembered."""
    OFF = "off"
    """The cache was neither read nor written."""
    RECOMPUTE = "recompute"
    """The function must be called whatever the cache holds; becomes `MISS` when the cache key is known."""


class StepRunId(msgspec.Struct, frozen=True):
    """The identity of one try of one task instance; `map_index` is -1 when the task is not mapped."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 1

    @classmethod
    def parse(cls, text: str) -> StepRunId:
        """Parse `dag/run/task/map index/try`; the run id may contain slashes."""
        dag_id, _, rest = text.partition("/")
        run_id, task_id, map_index, try_number = rest.rsplit("/", 3)
        return cls(dag_id, run_id, task_id, int(map_index), int(try_number))

    @property
    def task_instance(self) -> str:
        """`dag/run/task/map index`, which all tries of a task instance have in common."""
        return f"{self.dag_id}/{self.run_id}/{self.task_id}/{self.map_index}"

    def __str__(self) -> str:
        return f"{self.task_instance}/{self.try_number}"


class ResourceUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step run used, from the load of its inputs to the storage of its outputs.

    Memory and sizes are bytes. `peak_memory` is the largest resident memory of the process during the step, with the
    processes that the step started. `memory_limit` is the limit of that process, 0 for none. `cpu_seconds` includes the
    processes that it started. `gpu_memory` is the largest memory of PyTorch's tensors on all GPUs, 0 where none is used.
    `read_bytes` and `written_bytes` are what the process and those it started read from and wrote to files and pipes.
    """

    peak_memory: int = 0
    memory_limit: int = 0
    cpu_seconds: float = 0.0
    gpu_memory: int = 0
    read_bytes: int = 0
    written_bytes: int = 0

    @property
    def is_known(self) -> bool:
        """Whether anything was measured: a reused result used nothing."""
        return self != NOT_MEASURED


NOT_MEASURED = ResourceUsage()
"""The usage of a step run whose function was not called."""

RANK_SAMPLES = "ranks:samples"
"""The subject of the metadata with the curves of what processes used that ran a step together."""


class StepRun(msgspec.Struct, frozen=True):
    """The record of one execution of a step: its inputs, its outputs and its state.

    Times are seconds since the epoch.

    parameters: JSON values by argument name. inputs, outputs: refs by argument path (`frame`, `frames[2]`) and by
    output name. selected: by argument path, the selector of a registered model and the version that it stood for.
    summaries: the materializers' summaries of the outputs, by digest.

    why: the reason for `cache`, in words. origin: the step run whose outputs a hit reused. seconds: how long it took
    to load the inputs, call the function and store the outputs; for a hit, the `seconds` of its origin.

    model: the name of the registered model of which a model output becomes a version. registration: its `tags` and
    `description`, and whether it has no `signature` or `input_example`. clear_number: how often tasks of
    the DAG run had been cleared before. dag_version: the id of the DAG's version in Airflow's database.
    dag_run_parameters: JSON values of the DAG run's `params` by name, and of the rest of its `conf` as `conf.<name>`.

    metadata: what user code logged with `log_metadata`, by its subject: "" for the step, `input:<argument>` or
    `output:<name>`; and under `RANK_SAMPLES` lists of milliseconds since 1970 and value, by metric. model_inputs: by output name, the columns that a model takes and a few rows of them. versions: by
    output name, the version of the named artifact and whether its content was new. resources: what the step used.
    sweep: of a trial, the `name` of its sweep and the `metric` that this optimizes.
    """

    id: StepRunId
    state: StepState = StepState.RUNNING
    started: float = 0.0
    ended: float | None = None
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    inputs: Mapping[str, ArtifactRef] = msgspec.field(default_factory=dict)
    selected: Mapping[str, str] = msgspec.field(default_factory=dict)
    outputs: Mapping[str, ArtifactRef] = msgspec.field(default_factory=dict)
    summaries: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    cache: CacheState = CacheState.OFF
    cache_key: str = ""
    why: str = ""
    origin: str = ""
    seconds: float = 0.0
    model: str = ""
    label: str = ""
    source: str = ""
    owner: str = ""
    clear_number: int = 0
    log_url: str = ""
    code_version: str = ""
    dag_version: str = ""
    dag_run_parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    error: str = ""
    metadata: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    model_inputs: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    versions: Mapping[str, RecordedVersion] = msgspec.field(default_factory=dict)
    registration: Mapping[str, Any] = msgspec.field(default_factory=dict)
    resources: ResourceUsage = NOT_MEASURED
    sweep: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def is_hit(self) -> bool:
        """Whether the outputs of an earlier run were reused, so that the function was not called."""
        return self.cache is CacheState.HIT

    @property
    def is_pruned(self) -> bool:
        """Whether this is a trial that its sweep's pruner ended."""
        return "trial:pruned" in self.metadata

    @property
    def facts(self) -> dict[str, Mapping[str, Any]]:
        """The metadata without the curves of what its processes used."""
        return {subject: held for subject, held in self.metadata.items() if subject != RANK_SAMPLES}

    @property
    def end_time(self) -> float:
        """When the run ended, or when it started where it has not ended; seconds since the epoch."""
        return self.started if self.ended is None else self.ended

    @property
    def seconds_saved(self) -> float:
        """How much longer the step took when it was computed than its reuse took; zero for a computed one."""
        if not self.is_hit or self.ended is None:
            return 0.0
        return max(0.0, self.seconds - (self.ended - self.started))

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON document, with refs in their wire form."""
        return {
            **asdict(self),
            **msgspec.to_builtins(
                {name: getattr(self, name) for name in ("id", "state", "cache", "versions", "resources")}
            ),
            "inputs": {name: ref.to_wire() for name, ref in self.inputs.items()},
            "outputs": {name: ref.to_wire() for name, ref in self.outputs.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StepRun:
        """Read a document back; unknown keys are ignored. Raises `ValueError` for a malformed one."""
        refs = {
            kind: {name: ArtifactRef.from_wire(wire) for name, wire in document[kind].items()}
            for kind in ("inputs", "outputs")
        }
        return convert_record({**document, **refs}, cls)


class SuspendedRun(msgspec.Struct, frozen=True):
    """A run that another process continues: what opens it in the lineage server, and its lease, if it has one."""

    run: StepRun
    lineage: Mapping[str, str]
    lease: SuspendedLease | None = None


class FinishedDagRun(msgspec.Struct, frozen=True):
    """How and when a DAG run ended; `ended` in seconds since the epoch."""

    dag_id: str
    run_id: str
    state: StepState
    ended: float
