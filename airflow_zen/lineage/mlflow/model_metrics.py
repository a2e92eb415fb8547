"""Link the metrics that user code logged in a step to the model that they are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_zen.lineage.mlflow.datasets import is_mlflow_model
from airflow_zen.lineage.mlflow.log_step import LogRequest, model_metric_request, send

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.dag_runs import MlflowDagRun
    from airflow_zen.lineage.mlflow.models import LoggedModels
    from airflow_zen.runs.step_run import StepRun


def link_model_metrics(dag_run: MlflowDagRun, runs: Sequence[StepRun], models: LoggedModels) -> None:
    """Link a step's own metrics to the one model it read, or else to the one it created, and to the one table it read.

    Where the DAG run has several logged models of that content, as after a step that registers the model, each gets the
    metrics. This is done when the DAG run has ended, so that no task waits for it; repeating it changes nothing. A step
    with several models uses `log_metadata` to say which model its metrics are about.
    """
    for run in runs:
        send(_link_requests(dag_run, run, models), models.rest)


def _link_requests(dag_run: MlflowDagRun, run: StepRun, models: LoggedModels) -> Iterator[LogRequest]:
    ref, metrics = _single_model(run), _user_metrics(dag_run, run)
    if ref is None or not metrics:
        return
    run_id = dag_run.steps[run.id]["info"]["run_id"]
    model_ids: Sequence[str | None] = dag_run.models.get(ref.digest, ())
    for model_id in model_ids or [models.find_model_id(ref, run, dag_run.experiment_id)]:
        if model_id:
            yield model_metric_request(run, run_id, model_id, metrics)


def _single_model(run: StepRun) -> ArtifactRef | None:
    """Return the one model that a step's metrics are about; None for a hit, whose function was not called."""
    for refs in (run.inputs, run.outputs):
        found = {ref.digest: ref for ref in refs.values() if is_mlflow_model(ref)}
        if found:
            return next(iter(found.values())) if len(found) == 1 and not run.is_hit else None
    return None


def _user_metrics(dag_run: MlflowDagRun, run: StepRun) -> list[dict[str, Any]]:
    """Return the metrics that are neither ours nor metadata about an artifact."""
    subjects = tuple(f"{name}." for subject in run.metadata if (name := subject.partition(":")[2]))
    metrics = dag_run.steps.get(run.id, {}).get("data", {}).get("metrics", [])
    return [dict(metric) for metric in metrics if not metric["key"].startswith(("zen.", "system/", *subjects))]
