"""Addresses of pages in MLflow's interface, in its classic view: it opens in its view for agents otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.limits import short_digest
from airflow_zen.lineage.step_run import StepRunId

_CLASSIC = "workflowType=machine_learning"


@dataclass(frozen=True)
class Pages:
    """Know the pages of one DAG run: `runs` are MLflow's ids of its step runs, `models` of its models by digest.

    With an empty `ui` the addresses are relative, as MLflow's own pages want them: its server may be
    known to browsers under another name than to workers.
    """

    experiment_id: str = ""
    ui: str = ""
    runs: Mapping[StepRunId, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)

    def step(self, run: StepRunId) -> str:
        """Give the page of a step run; empty where MLflow does not have it."""
        run_id = self.runs.get(run, "")
        return self._page(f"runs/{run_id}") if run_id else ""

    def task(self, run: StepRunId) -> str:
        """Give the list of a task's runs in this DAG run."""
        return self._found(f'tags."zen.run_id" = "{run.run_id}" AND tags."zen.task_id" = "{run.task_id}"')

    def artifact(self, ref: ArtifactRef) -> str:
        """Give the model's page, or the list of the runs that touched this content."""
        model = self.models.get(ref.digest)
        return self._page(f"models/{model}") if model else self._found(f'dataset.digest = "{short_digest(ref.digest)}"')

    def _page(self, path: str) -> str:
        return f"{self.ui}/#/experiments/{self.experiment_id}/{path}?{_CLASSIC}".removeprefix("/")

    def _found(self, condition: str) -> str:
        return f"{self._page('runs')}&searchFilter={quote(condition)}" if self.experiment_id else ""
