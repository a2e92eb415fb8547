"""Show the metrics that user code logged in a step on the page of the model they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.known import KnownRun
from airflow_zen.lineage.models import Models, is_model
from airflow_zen.lineage.step_metadata import only_dataset
from airflow_zen.lineage.step_run import StepRun


def link_metrics(known: KnownRun, runs: Sequence[StepRun], models: Models) -> None:
    """Link a step's own metrics to the one model it read, or else to the one it made, and to the one table it read.

    Where the DAG run handed that model on, as a step does that registers it, each of its logged models gets them.
    Done when the DAG run has ended, so that no task waits for it. Doing it again changes nothing. A
    step with several models says itself what its metrics are about, with `log_metadata`.
    """
    for run in runs:
        ref, metrics = _only_model(run), _own_metrics(known, run)
        for model_id in _ids_of(ref, run, known, models) if ref and metrics else ():
            linked = [{**metric, "model_id": model_id, **only_dataset(run)} for metric in metrics]
            models.rest.post("runs/log-batch", {"run_id": known.steps[run.id]["info"]["run_id"], "metrics": linked})


def _only_model(run: StepRun) -> ArtifactRef | None:
    """Give the one model a step's metrics are about; none for a hit, whose function was not called."""
    for refs in (run.inputs, run.outputs):
        found = {ref.digest: ref for ref in refs.values() if is_model(ref)}
        if found:
            return next(iter(found.values())) if len(found) == 1 and run.cache != "hit" else None
    return None


def _own_metrics(known: KnownRun, run: StepRun) -> list[dict[str, Any]]:
    """Give the metrics that are neither ours nor about an artifact that is no model."""
    about = tuple(f"{name}." for noted in run.metadata if (name := noted.partition(":")[2]))
    metrics = known.steps.get(run.id, {}).get("data", {}).get("metrics", [])
    return [dict(metric) for metric in metrics if not metric["key"].startswith(("zen.", "system/", *about))]


def _ids_of(ref: ArtifactRef, run: StepRun, known: KnownRun, models: Models) -> Sequence[str]:
    if ref.digest in known.models:
        return known.models[ref.digest]
    model_id = models.find(ref, run, known.experiment_id)
    return [model_id] if model_id else []
