"""Addresses of pages in MLflow's interface, in its classic view: it opens in its view for agents otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.limits import short_digest
from airflow_zen.lineage.step_run import StepRunId

_CLASSIC_VIEW = "workflowType=machine_learning"


@dataclass(frozen=True)
class PageUrls:
    """Know the pages of one DAG run: `runs` are MLflow's ids of its step runs, `models` of its models by digest.

    With an empty `ui` the addresses are relative, as MLflow's own pages want them: its server may be
    known to browsers under another name than to workers.
    """

    experiment_id: str = ""
    ui: str = ""
    runs: Mapping[StepRunId, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)

    def step_url(self, run: StepRunId) -> str:
        """Give the page of a step run; empty where MLflow does not have it."""
        run_id = self.runs.get(run, "")
        return self._page_url(f"runs/{run_id}") if run_id else ""

    def task_url(self, run: StepRunId) -> str:
        """Give the list of a task's runs in this DAG run."""
        return self._search_url(f'tags."zen.run_id" = "{run.run_id}" AND tags."zen.task_id" = "{run.task_id}"')

    def artifact_url(self, ref: ArtifactRef) -> str:
        """Give the model's page, or the list of the runs that touched this content."""
        model = self.models.get(ref.digest)
        return (
            self._page_url(f"models/{model}")
            if model
            else self._search_url(f'dataset.digest = "{short_digest(ref.digest)}"')
        )

    def _page_url(self, path: str) -> str:
        return f"{self.ui}/#/experiments/{self.experiment_id}/{path}?{_CLASSIC_VIEW}".removeprefix("/")

    def _search_url(self, condition: str) -> str:
        return f"{self._page_url('runs')}&searchFilter={quote(condition)}" if self.experiment_id else ""
