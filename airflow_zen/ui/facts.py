"""Parts that several pages show: keys of step runs, facts of artifacts, states, JSON values of a bounded size."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.artifacts.ref import RecordedVersion
from airflow_zen.lineage.graph.model import displayed_state
from airflow_zen.lineage.mlflow.datasets import is_mlflow_model
from airflow_zen.runs.step_run import StepRun, StepRunId
from airflow_zen.ui.responses import ArtifactFacts, RunKey

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.ui.access import Access
    from airflow_zen.ui.airflow_runs import InstanceState

_MAX_TEXT = 20_000
_MAX_ITEMS = 200
# A step run, `dag/run/task/map index/try`, as reasons name it.
_ORIGIN = re.compile(r"(?:(?<=the result of )|^)([\w.~-]+)/.+?/-?\d+/\d+(?!\S)")
# Airflow's states of a task instance whose step run has no record, in the words of records.
_RECORD_STATES = {"SUCCESS": "FINISHED"}


def run_key(run: StepRunId) -> RunKey:
    """Return the key of a step run."""
    return RunKey(
        dag_id=run.dag_id,
        run_id=run.run_id,
        task_id=run.task_id,
        map_index=run.map_index,
        try_number=run.try_number,
    )


def group_of(task_id: str) -> str:
    """Return the fused group of which a step would be a part by its task id; empty if it can be in none."""
    return task_id.rpartition(".")[0]


def key_of_origin(origin: str, access: Access) -> RunKey | None:
    """Return the key of the step run that made something; None if there is none, or the user may not see its DAG."""
    try:
        run = StepRunId.parse(origin)
    except ValueError:
        return None
    return run_key(run) if access.may_read(run.dag_id) else None


def visible_run(run: StepRun, access: Access) -> StepRun:
    """Return a record without the step run whose result it reused or refused, where the user may not see its DAG."""
    origin = run.origin if key_of_origin(run.origin, access) else ""
    return msgspec.structs.replace(run, origin=origin, why=visible_reason(run.why, access))


def visible_reason(text: str, access: Access) -> str:
    """Return why a step is reused or computed, with a step run that the user may not see as `another DAG`."""
    return _ORIGIN.sub(lambda found: found[0] if access.may_read(found[1]) else "another DAG", text)


def artifact_facts(
    argument: str,
    ref: ArtifactRef,
    producer: RunKey | None,
    version: RecordedVersion | None = None,
    is_readable: bool = True,
) -> ArtifactFacts:
    """Return the facts of an artifact that a step run names."""
    return ArtifactFacts(
        argument=argument,
        name=ref.name,
        digest=ref.digest,
        type=ref.type,
        shape=shorten(ref.shape),
        size=ref.size,
        encoding=ref.encoding,
        version=version.version if version else "",
        is_new_version=bool(version and version.changed),
        is_model=is_mlflow_model(ref),
        is_readable=is_readable,
        producer=producer,
    )


def output_facts(run: StepRun, access: Access) -> list[ArtifactFacts]:
    """Return the facts of the outputs of a step run, whose producer is the run itself, or that of a reused result."""
    producer = key_of_origin(run.origin, access) if run.is_hit else run_key(run.id)
    return [artifact_facts(name, ref, producer, run.versions.get(name)) for name, ref in run.outputs.items()]


def state_of(run: StepRun | None, instance: InstanceState | None) -> str:
    """Return the state of a task instance: that of its record, and Airflow's while its latest try has no record."""
    if instance and (run is None or (not instance.has_ended and instance.try_number >= run.id.try_number)):
        return _RECORD_STATES.get(instance.state, instance.state)
    return displayed_state(run) if run else "PENDING"


def seconds_of(run: StepRun) -> float | None:
    """Return how long a step run took; None before its end."""
    return None if run.ended is None else run.ended - run.started


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def resources_of(run: StepRun) -> dict[str, float]:
    """Return what a step run used, by names that end with the unit; empty for a reused result, which used nothing."""
    used = run.resources
    found = {
        "peak_memory_bytes": used.peak_memory,
        "memory_limit_bytes": used.memory_limit,
        "cpu_seconds": used.cpu_seconds,
        "gpu_memory_bytes": used.gpu_memory,
        "read_bytes": used.read_bytes,
        "written_bytes": used.written_bytes,
    }
    return {name: value for name, value in found.items() if value}


def shorten(text: str, limit: int = _MAX_TEXT) -> str:
    """Return the beginning of a text, with an ellipsis where it was cut."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def bounded(value: Any, depth: int = 6) -> Any:
    """Return a JSON value with texts, lists and mappings of a bounded size, and null for numbers that JSON has not."""
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bool | int | None):
        return value
    if depth == 0:
        return shorten(json.dumps(value, ensure_ascii=False, default=str), 200)
    if isinstance(value, Mapping):
        items = list(value.items())[:_MAX_ITEMS]
        return {shorten(str(name), 300): bounded(item, depth - 1) for name, item in items}
    if isinstance(value, Iterable):
        return [bounded(item, depth - 1) for item in list(value)[:_MAX_ITEMS]]
    return shorten(str(value))
