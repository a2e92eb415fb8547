"""What MLflow's own client in user code finds, and what is left of it when the step ends."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from airflow_zen.environment import temporary_environment
from airflow_zen.lineage.metrics import to_milliseconds
from airflow_zen.lineage.names import experiment_name, run_name
from airflow_zen.lineage.parents import ParentRun
from airflow_zen.lineage.step_run import StepRun
from airflow_zen.lineage.tracking_server import TrackingServer
from airflow_zen.lineage.user_calls import VARIABLE, UserCalls, new_id


def user_environment(
    run: StepRun,
    server: TrackingServer,
    calls: UserCalls,
    parent: ParentRun | None = None,
    info: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Give the variables that lead MLflow's client into the step's run, and to `calls`, for what MLflow does not take.

    Without `parent` and `info` the run could not be opened: then all is kept, under ids that MLflow replaces later.
    """
    info = info or _unopened(run)
    experiment = {"experiment_id": info["experiment_id"], "name": experiment_name(run.id.dag_id)}
    if parent:
        experiment["artifact_location"] = parent.location
    known = {"run": {"info": info}, "experiment": {**experiment, "lifecycle_stage": "active"}}
    calls.begin({"server": server.uri, **known}, away=parent is None)
    ids = {"MLFLOW_RUN_ID": info["run_id"], "MLFLOW_EXPERIMENT_ID": info["experiment_id"], VARIABLE: str(calls.folder)}
    return {**server.environment(), **ids}


def _unopened(run: StepRun) -> dict[str, Any]:
    """Describe the run that MLflow will have, as far as it can be said."""
    run_id = new_id()
    return {
        "run_id": run_id,
        "run_uuid": run_id,
        "run_name": run_name(run),
        "experiment_id": new_id(),
        "status": "RUNNING",
        "lifecycle_stage": "active",
        "start_time": to_milliseconds(run.started),
    }


def end_user_run(run_id: str, status: str, environment: Mapping[str, str]) -> None:
    """End our run in MLflow's client where user code made it active; do nothing where MLflow was not imported.

    Without this, the client ends the run at exit, and writes FINISHED over our FAILED. `environment`
    is what the user's function saw; a run of the user's own is left alone.
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not hasattr(mlflow, "end_run"):
        return
    with temporary_environment(
        {**environment, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
    ):
        mlflow.flush_async_logging()
        while _is_ours(mlflow.active_run(), run_id):
            mlflow.end_run(status)


def _is_ours(active: Any, run_id: str) -> bool:
    if active is None:
        return False
    return run_id in {active.info.run_id, active.data.tags.get("mlflow.parentRunId")}
