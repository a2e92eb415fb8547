"""The names of experiments and runs in MLflow, and the tags by which they are found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from airflow_zen.errors import LineageError
from airflow_zen.lineage.mlflow.datasets import dataset_name
from airflow_zen.lineage.mlflow.encoding import (
    MAX_KEY,
    MAX_RUN_NAME,
    MAX_TAG_VALUE,
    pack_tag,
    sanitize_key,
    short_digest,
    shorten,
    shorten_name,
)
from airflow_zen.runs.step_run import StepRun, StepState

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef

EXPERIMENT_PREFIX = "airflow/"
PARENT_TAG = "mlflow.parentRunId"

_MAX_EXPERIMENT_NAME = 256
# The address of a run's files is 43 characters longer, and MLflow's database limits it to 200.
_MAX_ARTIFACT_LOCATION = 157
_HASH_LENGTH = 9

_UNSAFE_LOCATION_CHARACTERS = r"[^A-Za-z0-9_.-]"
_COMMIT = r"[0-9a-f]{40}"


def experiment_name(dag_id: str) -> str:
    """Return the name of a DAG's experiment."""
    return shorten_name(EXPERIMENT_PREFIX + dag_id, _MAX_EXPERIMENT_NAME)


def experiment_location(artifact_root: str, dag_id: str) -> str:
    """Return where an experiment keeps its files: `<artifact root>/mlflow/<DAG>`, within MLflow's limit if possible.

    MLflow unquotes `%` in local paths, so unsafe characters of a DAG's name are replaced, and its hash is appended.
    """
    base = f"{artifact_root}/mlflow/"
    available = max(_MAX_ARTIFACT_LOCATION - len(base), _HASH_LENGTH)
    plain = re.sub(_UNSAFE_LOCATION_CHARACTERS, "_", dag_id)
    if plain != dag_id or len(plain) > available:
        plain = f"{plain[: available - _HASH_LENGTH]}-{hashlib.sha256(dag_id.encode()).hexdigest()[:8]}"
    return base + plain


def dag_run_key(dag_id: str, run_id: str) -> str:
    """Return the value of the tag `zen.run_key`, which identifies a DAG run."""
    return f"{dag_id}/{run_id}"


def parent_filter(dag_id: str, run_id: str) -> str:
    """Return the filter that finds the parent run of a DAG run."""
    return f"tags.`zen.run_key` = {quote_filter_value(dag_run_key(dag_id, run_id))} AND tags.`zen.kind` = 'dag_run'"


def run_name(run: StepRun) -> str:
    """Return the name of a step run for people: `train [3] depth=8 try 2 (cached)`."""
    parts = [run.id.task_id]
    if run.id.map_index >= 0:
        parts.append(f"[{run.id.map_index}]")
    if run.label:
        parts.append(run.label)
    if run.id.try_number > 1:
        parts.append(f"try {run.id.try_number}")
    if run.is_hit:
        parts.append("(cached)")
    return shorten(" ".join(parts), MAX_RUN_NAME)


def parent_tags(run: StepRun) -> dict[str, str]:
    """Return the tags of the run that represents the whole DAG run."""
    return _valid_tags(
        {
            "zen.kind": "dag_run",
            "zen.run_key": dag_run_key(run.id.dag_id, run.id.run_id),
            "zen.dag_id": run.id.dag_id,
            "zen.run_id": run.id.run_id,
            "zen.dag_version": run.dag_version,
            "mlflow.source.name": f"airflow://{run.id.dag_id}",
            "mlflow.source.type": "JOB",
            "mlflow.user": run.owner,
        }
    )


def sweep_tags(run: StepRun, parent: str) -> dict[str, str]:
    """Return the tags of the run of the sweep that a trial belongs to."""
    return {
        **parent_tags(run),
        "zen.run_key": "",
        "zen.kind": "sweep",
        "zen.sweep": run.sweep["name"],
        PARENT_TAG: parent,
    }


def step_tags(run: StepRun, parent: str) -> dict[str, str]:
    """Return the tags of a step run that are known before the user's function is called."""
    commit = run.code_version if re.fullmatch(_COMMIT, run.code_version) else ""
    return _valid_tags(
        {
            PARENT_TAG: parent,
            "mlflow.source.name": f"airflow://{run.id.dag_id}/{run.id.task_id}",
            "mlflow.source.type": "JOB",
            "mlflow.source.git.commit": commit,
            "mlflow.user": run.owner,
            "zen.kind": "step",
            "zen.sweep": run.sweep.get("name", ""),
            "zen.dag_id": run.id.dag_id,
            "zen.run_id": run.id.run_id,
            "zen.task_id": run.id.task_id,
            "zen.map_index": str(run.id.map_index) if run.id.map_index >= 0 else "",
            "zen.try": str(run.id.try_number),
            "zen.key": str(run.id),
            "zen.code_version": run.code_version,
            "zen.airflow_url": run.log_url,
            **{sanitize_key(f"zen.selected.{path}"): text for path, text in run.selected.items()},
            **_cache_tags(run),
            **artifact_tags(run),
        }
    )


def end_tags(run: StepRun) -> dict[str, str]:
    """Return the tags of a step run that are known at its end."""
    failed = run.state is not StepState.FINISHED
    trial = "pruned" if run.is_pruned else ""
    error = run.error if failed else ""
    return _valid_tags({**_cache_tags(run), **artifact_tags(run), "zen.error": error, "zen.trial": trial})


def artifact_tags(run: StepRun) -> dict[str, str]:
    """Return the artifacts as `|name@digest|…|`: MLflow's filters cannot distinguish inputs from outputs."""
    inputs, all_in = pack_tag(_artifact_items(run.inputs.values()))
    outputs, all_out = pack_tag(_artifact_items(run.outputs.values()))
    cut = "" if all_in and all_out else "true"
    return {"zen.inputs": inputs, "zen.outputs": outputs, "zen.io_truncated": cut}


def with_artifact_names(run: StepRun) -> StepRun:
    """Return the run with names for unnamed artifacts, made from the argument or the output."""
    task = f"{run.id.dag_id}/{run.id.task_id}"
    return replace(
        run,
        inputs={argument: ref if ref.name else ref.with_name(argument) for argument, ref in run.inputs.items()},
        outputs={name: ref if ref.name else ref.with_name(f"{task}.{name}") for name, ref in run.outputs.items()},
    )


def quote_filter_value(value: str) -> str:
    """Return a quoted value for MLflow's filters. Raises `LineageError` for one that they cannot express."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise LineageError(f"MLflow cannot search for {value!r}, which contains both kinds of quotes. Rename it.")


def _cache_tags(run: StepRun) -> dict[str, str]:
    return {
        "zen.cache": run.cache,
        "zen.cache_key": run.cache_key,
        "zen.cache_why": run.why,
        "zen.cache_source_run": run.origin if run.is_hit else "",
    }


def _artifact_items(refs: Iterable[ArtifactRef]) -> list[str]:
    return [f"{dataset_name(ref).replace('|', '/')}@{short_digest(ref.digest)}" for ref in refs]


def _valid_tags(values: Mapping[str, str]) -> dict[str, str]:
    """Drop empty tags, and shorten long ones."""
    return {shorten(key, MAX_KEY): shorten(value, MAX_TAG_VALUE) for key, value in values.items() if value}
