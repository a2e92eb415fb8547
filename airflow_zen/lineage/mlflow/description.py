"""What people read on a step run's page: links, artifacts, code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_zen.lineage.mlflow.encoding import ELLIPSIS, MAX_TAG_VALUE, short_digest

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.runs.step_run import StepRun, StepRunId

_TRUNCATED_CODE_END = f"\n{ELLIPSIS}\n```"


def run_description(run: StepRun, experiment_id: str) -> str:
    """Write the run's description in Markdown, the only text in MLflow whose links can be clicked."""
    text = "\n\n".join(_paragraphs(run, experiment_id))
    if not run.source.strip():
        return _truncate_lines(text)
    code = f"{text}\n\n```python\n{run.source.strip()}\n```".strip()
    if len(code) <= MAX_TAG_VALUE:
        return code
    return (
        _truncate_lines(text)
        if len(text) > MAX_TAG_VALUE // 2
        else code[: MAX_TAG_VALUE - len(_TRUNCATED_CODE_END)] + _TRUNCATED_CODE_END
    )


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
    digest = short_digest(ref.digest)
    found = quote(f'dataset.digest = "{digest}"')
    link = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&searchFilter={found}"
    cells = [direction, _cell(name), _cell(ref.name), _cell(ref.shape), f"[{digest}]({link})"]
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _truncate_lines(text: str) -> str:
    if len(text) <= MAX_TAG_VALUE:
        return text
    return text[: MAX_TAG_VALUE - 2].rpartition("\n")[0] + f"\n{ELLIPSIS}"


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
