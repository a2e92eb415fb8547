"""Buttons on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.sdk import BaseOperator


class MlflowRunLink(BaseOperatorLink):
    """The link from a task to its run in MLflow."""

    name = "MLflow run"
    key = "_link_MlflowRunLink"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey | Any) -> str:
        """Return the page of the run that the operator opened; called in the task's process."""
        return str(getattr(operator, "mlflow_url", ""))
