"""Send what went into a step run and what came out: datasets and models."""

from __future__ import annotations

import logging
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.datasets import dataset_inputs
from airflow_zen.lineage.models import LoggedModels, is_mlflow_model
from airflow_zen.lineage.preparation import PrefetchResult
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.step_metadata import log_model_metadata
from airflow_zen.lineage.step_run import StepRun, StepState

log = logging.getLogger("airflow_zen.lineage")

_NO_MODEL_WARNING = (
    "Step %r is declared model=%r, but returned no model that MLflow can serve: %r has no new version. Return a model "
    "that is stored as an MLflow Model (docs/steps.md), or airflow_zen.MLflowModel(directory)."
)

# MLflow takes 1000, but may need longer for them than we wait for an answer.
_DATASETS_PER_REQUEST = 200


def log_datasets(run: StepRun, run_id: str, prefetched: PrefetchResult, rest: MlflowRest) -> None:
    """Attach all inputs, and all outputs that are no models; one request for every 200 of them.

    A model that this MLflow does not know is listed as a dataset, so that no artifact is missing.
    """
    models = {prefetched.model_ids[ref.digest]: None for ref in run.inputs.values() if _has_model_id(ref, prefetched)}
    inputs = [ref for ref in run.inputs.values() if not _has_model_id(ref, prefetched)]
    outputs = [
        ref for ref in run.outputs.values() if not is_mlflow_model(ref) or _is_unknown_model(ref, run, prefetched)
    ]
    listed = dataset_inputs(inputs, outputs, {**prefetched.summaries, **run.summaries})
    body: dict[str, Any] = {"run_id": run_id, "models": [{"model_id": model_id} for model_id in models]}
    parts = [listed[first : first + _DATASETS_PER_REQUEST] for first in range(0, len(listed), _DATASETS_PER_REQUEST)]
    for part in parts or [[]] * bool(models):
        rest.post("runs/log-inputs", {**body, "datasets": part})


def log_models(
    run: StepRun, experiment_id: str, run_id: str, prefetched: PrefetchResult, models: LoggedModels, resume: bool
) -> None:
    """Enter the model outputs into MLflow; those that a hit reused are only attached to the run."""
    outputs = [name for name, ref in run.outputs.items() if is_mlflow_model(ref)]
    if run.model and not outputs and run.state is StepState.FINISHED:
        log.warning(_NO_MODEL_WARNING, run.id.task_id, run.model, run.model)
    if run.cache != "hit":
        made = {f"output:{name}": models.log_model(run, name, experiment_id, run_id, resume) for name in outputs}
        log_model_metadata(run, run_id, {**_input_model_ids(run, prefetched), **made}, models.rest)
        return
    known = [
        prefetched.model_ids[run.outputs[name].digest]
        for name in outputs
        if _has_model_id(run.outputs[name], prefetched)
    ]
    if known:
        models.log_outputs(run_id, known)


def _input_model_ids(run: StepRun, prefetched: PrefetchResult) -> dict[str, str]:
    return {
        f"input:{name}": prefetched.model_ids[ref.digest]
        for name, ref in run.inputs.items()
        if _has_model_id(ref, prefetched)
    }


def _has_model_id(ref: ArtifactRef, prefetched: PrefetchResult) -> bool:
    return ref.digest in prefetched.model_ids


def _is_unknown_model(ref: ArtifactRef, run: StepRun, prefetched: PrefetchResult) -> bool:
    return run.cache == "hit" and not _has_model_id(ref, prefetched)
