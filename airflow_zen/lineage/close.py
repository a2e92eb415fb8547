"""End the parent run of a DAG run; needs no store, so that a scheduler can do it."""

from __future__ import annotations

from typing import Any

from airflow_zen.lineage.ended import FinishedDagRun
from airflow_zen.lineage.experiments import find_experiment
from airflow_zen.lineage.names import parent_filter, quote_filter_value
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.step_run import StepState

_PER_PAGE = 100


def close_parent_run(rest: MlflowRest, run: FinishedDagRun) -> None:
    """Give a DAG run's parent run its end state and time.

    Step runs that never ended, because their process died, end as KILLED. Three requests, and one
    for each such step run. Raises `LineageError` when MLflow is away or refuses. A DAG run without a
    parent run has nothing to close.
    """
    experiment = find_experiment(run.dag_id, rest)
    if experiment is None or experiment.deleted:
        return
    for parent in _search_run_ids(rest, experiment.id, parent_filter(run.dag_id, run.run_id)):
        _close_runs(rest, experiment.id, parent, run.state, run.ended)


def _close_runs(rest: MlflowRest, experiment_id: str, parent: str, state: StepState, ended: float) -> None:
    _end_run(rest, parent, state, ended)
    unfinished = f"tags.`mlflow.parentRunId` = {quote_filter_value(parent)} AND attributes.status = 'RUNNING'"
    for step in _search_run_ids(rest, experiment_id, unfinished):
        _end_run(rest, step, StepState.KILLED, ended)


def _end_run(rest: MlflowRest, run_id: str, state: StepState, ended: float) -> None:
    rest.post("runs/update", {"run_id": run_id, "status": str(state), "end_time": round(ended * 1000)})


def _search_run_ids(rest: MlflowRest, experiment_id: str, condition: str) -> list[str]:
    """Find runs by page; all of them before any is changed, because that would shift the pages."""
    request: dict[str, Any] = {"experiment_ids": [experiment_id], "filter": condition, "max_results": _PER_PAGE}
    found = rest.paginate("runs/search", request, "runs")
    return [run["info"]["run_id"] for run in found]
