"""Show the metrics that user code logged in a step on the page of the model they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_zen.lineage.mlflow.log_step import single_input_dataset
from airflow_zen.lineage.mlflow.models import LoggedModels, is_mlflow_model

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.dag_runs import MlflowDagRun
    from airflow_zen.runs.step_run import StepRun


def link_model_metrics(dag_run: MlflowDagRun, runs: Sequence[StepRun], models: LoggedModels) -> None:
    """Link a step's own metrics to the one model it read, or else to the one it made, and to the one table it read.

    Where the DAG run handed that model on, as a step does that registers it, each of its logged models gets them.
    Done when the DAG run has ended, so that no task waits for it. Doing it again changes nothing. A
    step with several models says itself what its metrics are about, with `log_metadata`.
    """
    for run in runs:
        ref, metrics = _single_model(run), _user_metrics(dag_run, run)
        for model_id in _model_ids(ref, run, dag_run, models) if ref and metrics else ():
            linked = [{**metric, "model_id": model_id, **single_input_dataset(run)} for metric in metrics]
            models.rest.post("runs/log-batch", {"run_id": dag_run.steps[run.id]["info"]["run_id"], "metrics": linked})


def _single_model(run: StepRun) -> ArtifactRef | None:
    """Give the one model a step's metrics are about; none for a hit, whose function was not called."""
    for refs in (run.inputs, run.outputs):
        found = {ref.digest: ref for ref in refs.values() if is_mlflow_model(ref)}
        if found:
            return next(iter(found.values())) if len(found) == 1 and not run.is_hit else None
    return None


def _user_metrics(dag_run: MlflowDagRun, run: StepRun) -> list[dict[str, Any]]:
    """Give the metrics that are neither ours nor about an artifact that is no model."""
    about = tuple(f"{name}." for noted in run.metadata if (name := noted.partition(":")[2]))
    metrics = dag_run.steps.get(run.id, {}).get("data", {}).get("metrics", [])
    return [dict(metric) for metric in metrics if not metric["key"].startswith(("zen.", "system/", *about))]


def _model_ids(ref: ArtifactRef, run: StepRun, dag_run: MlflowDagRun, models: LoggedModels) -> Sequence[str]:
    if ref.digest in dag_run.models:
        return dag_run.models[ref.digest]
    model_id = models.find_model_id(ref, run, dag_run.experiment_id)
    return [model_id] if model_id else []
