"""What a recorder looks up while the user's function runs, so that the task does not wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.artifacts.manifest import MANIFEST_FILE_NAME, Manifest
from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow.datasets import is_mlflow_model
from airflow_zen.transports.base import key_of_url

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.models import LoggedModels
    from airflow_zen.runs.step_run import StepRun

_MAX_LOOKUPS = 100


class PrefetchResult(msgspec.Struct, frozen=True):
    """Summaries of artifacts of other steps and MLflow's ids of models, by digest; the tags sent at the start."""

    summaries: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    model_ids: Mapping[str, str] = msgspec.field(default_factory=dict)
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)


def prefetch(run: StepRun, experiment_id: str, models: LoggedModels) -> PrefetchResult:
    """Look up what a run refers to; at most 100 artifacts of a kind."""
    found = {ref.digest: models.find_model_id(ref, run, experiment_id) for ref in _missing_models(run)}
    return PrefetchResult(
        summaries={ref.digest: _read_summary(ref, models) for ref in _missing_schemas(run)},
        model_ids={digest: model_id for digest, model_id in found.items() if model_id},
    )


def _missing_schemas(run: StepRun) -> Iterable[ArtifactRef]:
    """Return the artifacts whose schema this DAG's experiment may not have: outputs of a hit, and inputs of other DAGs.

    MLflow keeps the first description of a dataset in an experiment, and the producer has written that of all others.
    """
    refs = [ref for ref in run.inputs.values() if not ref.name.startswith(f"{run.id.dag_id}/")]
    refs += run.outputs.values() if run.is_hit else ()
    missing = {ref.digest: ref for ref in refs if ref.digest not in run.summaries and not is_mlflow_model(ref)}
    return islice(missing.values(), _MAX_LOOKUPS)


def _missing_models(run: StepRun) -> Iterable[ArtifactRef]:
    """Return the models whose id in MLflow is not known: inputs, and outputs of a hit."""
    refs = [*run.inputs.values(), *(run.outputs.values() if run.is_hit else ())]
    return islice({ref.digest: ref for ref in refs if is_mlflow_model(ref)}.values(), _MAX_LOOKUPS)


def _read_summary(ref: ArtifactRef, models: LoggedModels) -> Mapping[str, Any]:
    """Return the summary of an artifact's manifest; empty where it was deleted, or is outside the artifact root."""
    try:
        key = f"{key_of_url(models.root, ref.uri)}/{MANIFEST_FILE_NAME}"
        return Manifest.from_json(models.transport.read(key), ref.digest).summary
    except ZenError:
        return {}
