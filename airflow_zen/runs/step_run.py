"""The record of one execution of a step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import asdict

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import RecordedVersion


class StepState(StrEnum):
    """How a step run stands, in MLflow's words."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class CacheState(StrEnum):
    """How a step run used the cache."""

    HIT = "hit"
    """The outputs of an earlier run were reused."""
    MISS = "miss"
    """The function was called, and its outputs are remembered."""
    OFF = "off"
    """The cache was neither read nor written."""
    RECOMPUTE = "recompute"
    """The function must be called whatever the cache holds; becomes `MISS` when its outputs are remembered."""


class StepRunId(msgspec.Struct, frozen=True):
    """Name one try of one task instance; `map_index` is -1 when the task is not mapped."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 1

    @classmethod
    def parse(cls, text: str) -> StepRunId:
        """Read `dag/run/task/map index/try`, where a run id may hold slashes itself."""
        dag_id, _, rest = text.partition("/")
        run_id, task_id, map_index, try_number = rest.rsplit("/", 3)
        return cls(dag_id, run_id, task_id, int(map_index), int(try_number))

    @property
    def task_instance(self) -> str:
        """Name what all tries of one task instance have in common."""
        return f"{self.dag_id}/{self.run_id}/{self.task_id}/{self.map_index}"

    def __str__(self) -> str:
        return f"{self.task_instance}/{self.try_number}"


class StepRun(msgspec.Struct, frozen=True):
    """Tell one execution of a step: who, what went in, what came out, how it ended.

    Times are seconds since the epoch. `parameters` are JSON values by argument name. `inputs` and
    `outputs` hold refs by argument path (`frame`, `frames[2]`) and output name. `summaries` are the
    materializers' summaries of the outputs, by digest. `why` is the reason for `cache` in words, `origin` the step run whose outputs a hit reused. `seconds` is how long
    loading the inputs, the function and storing the outputs took; of a hit, how long it took the run whose outputs it reused. `clear_number` counts how
    often tasks of the DAG run had been cleared before. `model` is the name of the
    registered model that a model output becomes a version of. `dag_version` is the id of the DAG's version in Airflow's
    database, which no other Airflow has. `metadata` are facts that user code noted,
    by what they are about: "" for the step, `input:<argument>`, `output:<name>`. `versions` tell by output name under
    which version its artifact is known, and whether the content was new there.
    """

    id: StepRunId
    state: StepState = StepState.RUNNING
    started: float = 0.0
    ended: float | None = None
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    inputs: Mapping[str, ArtifactRef] = msgspec.field(default_factory=dict)
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
    error: str = ""
    metadata: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    versions: Mapping[str, RecordedVersion] = msgspec.field(default_factory=dict)

    @property
    def is_hit(self) -> bool:
        """Whether the outputs of an earlier run were reused, so that the function was not called."""
        return self.cache is CacheState.HIT

    def to_json(self) -> dict[str, Any]:
        """Write the record as a JSON document; refs in their wire form, secret parameters masked."""
        document = asdict(self)
        document["id"] = asdict(self.id)
        document["state"] = str(self.state)
        document["cache"] = str(self.cache)
        document["parameters"] = mask_secrets(self.parameters)
        document["inputs"] = {name: ref.to_wire() for name, ref in self.inputs.items()}
        document["outputs"] = {name: ref.to_wire() for name, ref in self.outputs.items()}
        document["versions"] = {name: asdict(made) for name, made in self.versions.items()}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StepRun:
        """Read a record back."""
        fields = dict(document)
        fields["id"] = StepRunId(**fields["id"])
        fields["state"] = StepState(fields["state"])
        fields["cache"] = CacheState(fields["cache"])
        fields["inputs"] = {name: ArtifactRef.from_wire(wire) for name, wire in fields["inputs"].items()}
        fields["outputs"] = {name: ArtifactRef.from_wire(wire) for name, wire in fields["outputs"].items()}
        fields["versions"] = {name: RecordedVersion(**made) for name, made in fields.get("versions", {}).items()}
        return cls(**fields)


MASK = "***"

# Whole words at the end of a name: `max_tokens`, `tokenizer` and `token_count` are no secrets.
_SECRET = re.compile(
    r"(^|[_\-. ])(password|passwd|passphrase|secret|token|authorization|credentials?"
    r"|api_?key|access_?key|secret_?key|private_?key)$"
)
_CAMEL_CASE_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def mask_secrets(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Copy parameters with `***` for each value, also in dicts and lists, whose name says that it is a secret."""
    return {name: _mask_value(name, value) for name, value in parameters.items()}


def _mask_value(name: str, value: Any) -> Any:
    if value is not None and value != "" and _SECRET.search(_CAMEL_CASE_BOUNDARY.sub("_", str(name)).lower()):
        return MASK
    if isinstance(value, Mapping):
        return mask_secrets(value)
    if isinstance(value, list | tuple):
        return [_mask_value("", item) for item in value]
    return value


class FinishedDagRun(msgspec.Struct, frozen=True):
    """Say how and when a DAG run ended; `ended` in seconds since the epoch."""

    dag_id: str
    run_id: str
    state: StepState
    ended: float

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> FinishedDagRun:
        """Read back what `msgspec.structs.asdict` wrote."""
        return cls(document["dag_id"], document["run_id"], StepState(document["state"]), float(document["ended"]))
