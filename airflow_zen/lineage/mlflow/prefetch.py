"""What a recorder finds out while the user's function runs, so that the task need not wait for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.artifacts.manifest import MANIFEST_FILE_NAME, Manifest
from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow.models import is_mlflow_model
from airflow_zen.transports.base import Transport, key_of_url

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.runs.step_run import StepRun

MAX_LOOKUPS = 100


class PrefetchResult(msgspec.Struct, frozen=True):
    """Summaries of artifacts made elsewhere and MLflow's ids of known models, by digest; tags sent at the start."""

    summaries: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    model_ids: Mapping[str, str] = msgspec.field(default_factory=dict)
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)


def artifacts_missing_schema(run: StepRun) -> Iterator[ArtifactRef]:
    """Give the artifacts whose schema this DAG's experiment may not have yet; at most 100.

    Those are the outputs of a hit, and inputs that another DAG made; MLflow keeps the first
    description of a dataset in an experiment, and the producer gave that for all others.
    """
    refs = [ref for ref in run.inputs.values() if not ref.name.startswith(f"{run.id.dag_id}/")]
    if run.is_hit:
        refs.extend(run.outputs.values())
    missing = {ref.digest: ref for ref in refs if ref.digest not in run.summaries and not is_mlflow_model(ref)}
    yield from islice(missing.values(), MAX_LOOKUPS)


def artifacts_missing_model_id(run: StepRun) -> Iterator[ArtifactRef]:
    """Give the models whose id in MLflow must be looked up: inputs, and outputs of a hit; at most 100."""
    refs = [*run.inputs.values(), *(run.outputs.values() if run.is_hit else ())]
    yield from islice({ref.digest: ref for ref in refs if is_mlflow_model(ref)}.values(), MAX_LOOKUPS)


def read_summary(ref: ArtifactRef, transport: Transport, root: str) -> Mapping[str, Any]:
    """Read the summary from an artifact's manifest; nothing when it is not ours, or gone."""
    try:
        return Manifest.from_json(
            transport.read(f"{key_of_url(root, ref.uri)}/{MANIFEST_FILE_NAME}"), ref.digest
        ).summary
    except ZenError:
        return {}
