"""End the parent run of a DAG run; needs no store, so that a scheduler can do it."""

from __future__ import annotations

import logging
from typing import Any

from airflow_zen.errors import LineageError
from airflow_zen.lineage.experiments import find_experiment
from airflow_zen.lineage.names import parent_filter, quoted
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.step_run import StepState

log = logging.getLogger("airflow_zen.lineage")

_MOST = 100


def close_parent(rest: MlflowRest, dag_id: str, run_id: str, state: StepState, ended: float) -> bool:
    """Give a DAG run's parent run its end state and time; `ended` in seconds since the epoch.

    Step runs that never ended, because their process died, end as KILLED. Three requests, and one
    for each such step run. Never raises; returns False when MLflow is away or refuses. A DAG run
    without a parent run has nothing to close, and counts as closed.
    """
    try:
        experiment = find_experiment(dag_id, rest)
        if experiment is None or experiment.deleted:
            return True
        for parent in _search(rest, experiment.id, parent_filter(dag_id, run_id)):
            _close(rest, experiment.id, parent, state, ended)
    except LineageError as error:
        log.warning("The MLflow run of DAG run %s/%s could not be closed: %s", dag_id, run_id, error)
        return False
    return True


def _close(rest: MlflowRest, experiment_id: str, parent: str, state: StepState, ended: float) -> None:
    _end(rest, parent, state, ended)
    unfinished = f"tags.`mlflow.parentRunId` = {quoted(parent)} AND attributes.status = 'RUNNING'"
    for step in _search(rest, experiment_id, unfinished):
        _end(rest, step, StepState.KILLED, ended)


def _end(rest: MlflowRest, run_id: str, state: StepState, ended: float) -> None:
    rest.post("runs/update", {"run_id": run_id, "status": str(state), "end_time": round(ended * 1000)})


def _search(rest: MlflowRest, experiment_id: str, condition: str) -> list[str]:
    request: dict[str, Any] = {"experiment_ids": [experiment_id], "filter": condition, "max_results": _MOST}
    return [run["info"]["run_id"] for run in rest.post("runs/search", request).get("runs", [])]
