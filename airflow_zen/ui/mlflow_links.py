"""Links to MLflow: they need the parent run that the store names for a DAG run, and no request to MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_zen.errors import ZenError
from airflow_zen.lineage.mlflow.description import PageUrls

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.ui.stacks import OpenedStack


class DagRunLinks(PageUrls, frozen=True):
    """The addresses of MLflow's pages of one DAG run; each is empty where MLflow is not configured, or has no such run."""

    parent: str = ""

    @property
    def parent_url(self) -> str:
        """The page of the DAG run."""
        return self.run_url(self.parent) if self.parent else ""

    def step_url(self, run: StepRunId) -> str:
        """Return the list with the run of a step run, which is found by its tag."""
        return self.key_url(str(run))


def dag_run_links(opened: OpenedStack, dag_id: str, run_id: str) -> DagRunLinks:
    """Return the links of a DAG run; one read of the store."""
    from airflow_zen.lineage.mlflow.parent_runs import claimed_parent

    if opened.mlflow is None:
        return DagRunLinks()
    try:
        parent = claimed_parent(dag_id, run_id, opened.mlflow, opened.stack.store.transport)
    except (ZenError, msgspec.DecodeError):
        return DagRunLinks()
    if parent is None:
        return DagRunLinks()
    return DagRunLinks(parent.experiment_id, opened.mlflow.server.ui, parent=parent.run_id)
