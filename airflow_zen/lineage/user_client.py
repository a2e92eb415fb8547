"""The one place that touches MLflow's own client: user code may have used it in this process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from airflow_zen.environment import added_environment


def end_user_run(run_id: str, status: str, environment: Mapping[str, str]) -> None:
    """End our run in MLflow's client where user code made it active; do nothing where MLflow was not imported.

    Without this, the client ends the run at exit, and writes FINISHED over our FAILED. `environment`
    is what the user's function saw; a run of the user's own is left alone.
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not hasattr(mlflow, "end_run"):
        return
    with added_environment({**environment, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}):
        while _is_ours(mlflow.active_run(), run_id):
            mlflow.end_run(status)


def _is_ours(active: Any, run_id: str) -> bool:
    if active is None:
        return False
    return run_id in {active.info.run_id, active.data.tags.get("mlflow.parentRunId")}
