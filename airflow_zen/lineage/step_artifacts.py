"""Send what went into a step run and what came out: datasets and models."""

from __future__ import annotations

import logging
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.datasets import datasets
from airflow_zen.lineage.models import Models, is_model
from airflow_zen.lineage.preparation import Preparation
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.step_metadata import send_model_facts
from airflow_zen.lineage.step_run import StepRun, StepState

log = logging.getLogger("airflow_zen.lineage")

_UNREGISTERED = (
    "Step %r is declared model=%r, but returned no model that MLflow can serve: %r has no new version. Return a model "
    "that is stored as an MLflow Model (docs/steps.md), or airflow_zen.MLflowModel(directory)."
)

# MLflow takes 1000, but may need longer for them than we wait for an answer.
_PER_REQUEST = 200


def send_datasets(run: StepRun, run_id: str, prepared: Preparation, rest: MlflowRest) -> None:
    """Attach all inputs, and all outputs that are no models; one request for every 200 of them.

    A model that this MLflow does not know is listed as a dataset, so that no artifact is missing.
    """
    models = {prepared.model_ids[ref.digest]: None for ref in run.inputs.values() if _known(ref, prepared)}
    inputs = [ref for ref in run.inputs.values() if not _known(ref, prepared)]
    outputs = [ref for ref in run.outputs.values() if not is_model(ref) or _lost(ref, run, prepared)]
    listed = datasets(inputs, outputs, {**prepared.summaries, **run.summaries})
    body: dict[str, Any] = {"run_id": run_id, "models": [{"model_id": model_id} for model_id in models]}
    parts = [listed[first : first + _PER_REQUEST] for first in range(0, len(listed), _PER_REQUEST)]
    for part in parts or [[]] * bool(models):
        rest.post("runs/log-inputs", {**body, "datasets": part})


def send_models(
    run: StepRun, experiment_id: str, run_id: str, prepared: Preparation, models: Models, again: bool
) -> None:
    """Enter the model outputs into MLflow; those that a hit reused are only attached to the run."""
    outputs = [name for name, ref in run.outputs.items() if is_model(ref)]
    if run.model and not outputs and run.state is StepState.FINISHED:
        log.warning(_UNREGISTERED, run.id.task_id, run.model, run.model)
    if run.cache != "hit":
        made = {f"output:{name}": models.record(run, name, experiment_id, run_id, again) for name in outputs}
        send_model_facts(run, run_id, {**_read_models(run, prepared), **made}, models.rest)
        return
    known = [prepared.model_ids[run.outputs[name].digest] for name in outputs if _known(run.outputs[name], prepared)]
    if known:
        models.attach(run_id, known)


def _read_models(run: StepRun, prepared: Preparation) -> dict[str, str]:
    return {
        f"input:{name}": prepared.model_ids[ref.digest] for name, ref in run.inputs.items() if _known(ref, prepared)
    }


def _known(ref: ArtifactRef, prepared: Preparation) -> bool:
    return ref.digest in prepared.model_ids


def _lost(ref: ArtifactRef, run: StepRun, prepared: Preparation) -> bool:
    return run.cache == "hit" and not _known(ref, prepared)
