"""The description of a step run on its page in MLflow, and the addresses of pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from airflow_zen.lineage.mlflow.encoding import ELLIPSIS, MAX_TAG_VALUE, short_digest

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.runs.step_run import StepRun, StepRunId

_CLASSIC_VIEW = "workflowType=machine_learning"
# Sorted by time, MLflow shows step runs inside their parent runs, which it shows closed.
_FLAT_LIST = "orderByKey=attributes.%60Run%20Name%60&orderByAsc=false"
_TRUNCATED_CODE_END = f"\n{ELLIPSIS}\n```"


def run_description(run: StepRun, experiment_id: str) -> str:
    """Return the run's description in Markdown, the only text in MLflow with links."""
    text = "\n\n".join(_paragraphs(run, experiment_id))
    if source := run.source.strip():
        code = f"{text}\n\n```python\n{source}\n```".strip()
        if len(code) <= MAX_TAG_VALUE:
            return code
        if len(text) <= MAX_TAG_VALUE // 2:
            return code[: MAX_TAG_VALUE - len(_TRUNCATED_CODE_END)] + _TRUNCATED_CODE_END
    if len(text) <= MAX_TAG_VALUE:
        return text
    return text[: MAX_TAG_VALUE - 2].rpartition("\n")[0] + f"\n{ELLIPSIS}"


def _paragraphs(run: StepRun, experiment_id: str) -> Iterator[str]:
    if run.log_url:
        yield f"[Log in Airflow]({run.log_url})"
    if run.origin and run.is_hit:
        yield f"Cached: the outputs were made by `{run.origin}`."
    if run.error:
        yield f"**Error:** `{run.error.replace('`', chr(39))[:1000]}`"
    rows = [_row("in", argument, ref, experiment_id) for argument, ref in run.inputs.items()]
    rows += [_row("out", output, ref, experiment_id) for output, ref in run.outputs.items()]
    if rows:
        yield "\n".join(["| | name | artifact | shape | digest |", "|---|---|---|---|---|", *rows])


def _row(direction: str, name: str, ref: ArtifactRef, experiment_id: str) -> str:
    link = f"[{short_digest(ref.digest)}]({PageUrls(experiment_id).artifact_url(ref)})"
    cells = [direction, _cell(name), _cell(ref.name), _cell(ref.shape), link]
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


class PageUrls(msgspec.Struct, frozen=True):
    """The addresses of MLflow's pages of one DAG run.

    ui: the address of the server; where it is empty the addresses are relative, for links on MLflow's own pages. runs:
    MLflow's ids of the step runs. models: its ids of the models, by digest.
    """

    experiment_id: str = ""
    ui: str = ""
    runs: Mapping[StepRunId, str] = msgspec.field(default_factory=dict)
    models: Mapping[str, str] = msgspec.field(default_factory=dict)

    def step_url(self, run: StepRunId) -> str:
        """Return the page of a step run; empty where MLflow does not have it."""
        run_id = self.runs.get(run, "")
        return self._page_url(f"runs/{run_id}") if run_id else ""

    def task_url(self, run: StepRunId) -> str:
        """Return the list of a task's runs in this DAG run."""
        return self._search_url(f'tags."zen.run_id" = "{run.run_id}" AND tags."zen.task_id" = "{run.task_id}"')

    def versions_url(self, run: StepRun) -> str:
        """Return the list of versions of the step's registered model, else of the task's runs that were computed."""
        if run.model:
            return f"{self.ui}/#/models/{quote(run.model, safe='')}?{_CLASSIC_VIEW}"
        index = f' AND tags."zen.map_index" = "{run.id.map_index}"' if run.id.map_index >= 0 else ""
        return self._search_url(f'tags."zen.task_id" = "{run.id.task_id}"{index} AND tags."zen.cache" != "hit"')

    def artifact_url(self, ref: ArtifactRef) -> str:
        """Return the model's page, or the list of the runs that read or wrote this content."""
        if model := self.models.get(ref.digest):
            return self._page_url(f"models/{model}")
        return self._search_url(f'dataset.digest = "{short_digest(ref.digest)}"')

    def _page_url(self, path: str) -> str:
        return f"{self.ui}/#/experiments/{self.experiment_id}/{path}?{_CLASSIC_VIEW}".removeprefix("/")

    def _search_url(self, condition: str) -> str:
        return f"{self._page_url('runs')}&{_FLAT_LIST}&searchFilter={quote(condition)}" if self.experiment_id else ""
