"""The description of a step run on its page in MLflow, and the addresses of pages."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from airflow_zen.lineage.mlflow.encoding import ELLIPSIS, MAX_TAG_VALUE, short_digest, shorten

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.runs.step_run import StepRun, StepRunId

_CLASSIC_VIEW = "workflowType=machine_learning"
# Sorted by time, MLflow shows step runs inside their parent runs, which it shows closed.
_FLAT_LIST = "orderByKey=attributes.%60Run%20Name%60&orderByAsc=false"
_PADDING = "&emsp;"
# What fits beside the facts of a run on a page 1360 pixels wide.
_MAX_CODE_LINE = 78
_MAX_CELL = 36
_TRUNCATED_CODE_END = f"\n{ELLIPSIS}\n```"


def run_description(run: StepRun, experiment_id: str, parent_run_id: str = "") -> str:
    """Return the run's description in Markdown, the only text in MLflow with links: links and artifacts first, code last."""
    text = "\n\n".join(_paragraphs(run, experiment_id, parent_run_id))
    if source := run.source.strip():
        code = f"{text}\n\n**Code**\n\n```python\n{_wrap_code(source)}\n```".strip()
        if len(code) <= MAX_TAG_VALUE:
            return code
        if len(text) <= MAX_TAG_VALUE // 2:
            return code[: MAX_TAG_VALUE - len(_TRUNCATED_CODE_END)] + _TRUNCATED_CODE_END
    if len(text) <= MAX_TAG_VALUE:
        return text
    return text[: MAX_TAG_VALUE - 2].rpartition("\n")[0] + f"\n{ELLIPSIS}"


def _wrap_code(source: str) -> str:
    """Break long lines: MLflow does not, and one long line moves the content beside the description off the page."""
    wrapper = textwrap.TextWrapper(_MAX_CODE_LINE, replace_whitespace=False, break_on_hyphens=False)
    lines: list[str] = []
    for line in source.splitlines():
        indent = len(line) - len(line.lstrip()) + 8
        wrapper.subsequent_indent = " " * min(indent, _MAX_CODE_LINE // 2)
        lines += wrapper.wrap(line) or [""]
    return "\n".join(lines)


def padded_row(cells: Iterable[str]) -> str:
    """Return a row of a table; MLflow shows cells without any space between them, and drops styles."""
    return f"| {' | '.join(f'{cell}{_PADDING}' for cell in cells)} |"


def _paragraphs(run: StepRun, experiment_id: str, parent_run_id: str) -> Iterator[str]:
    graph = PageUrls(experiment_id).run_url(parent_run_id) if parent_run_id else ""
    links = {"Lineage graph": graph, "Log in Airflow": run.log_url}
    if shown := " · ".join(f"[{text}]({url})" for text, url in links.items() if url):
        yield shown
    if run.origin and run.is_hit:
        origin = f"`{run.origin}`"
        if run.origin.startswith(f"{run.id.dag_id}/"):
            origin = f"[{origin}]({PageUrls(experiment_id).key_url(run.origin)})"
        took = f", which took {run.seconds:.3g} s" if run.seconds else ""
        yield f"Cached: the outputs were made by {origin}{took}."
    if run.error:
        yield f"**Error:** `{run.error.replace('`', chr(39))[:1000]}`"
    names = {path: f"{path}: {text}" for path, text in run.selected.items()}
    rows = [_row("in", names.get(argument, argument), ref, experiment_id) for argument, ref in run.inputs.items()]
    rows += [_row("out", output, ref, experiment_id) for output, ref in run.outputs.items()]
    if rows:
        head = padded_row(["", "name", "artifact", "shape", "digest"])
        yield "\n".join([head, "|---|---|---|---|---|", *rows])


def _row(direction: str, name: str, ref: ArtifactRef, experiment_id: str) -> str:
    link = f"[{short_digest(ref.digest)}]({PageUrls(experiment_id).artifact_url(ref)})"
    return padded_row([direction, _cell(name), _cell(ref.name), _cell(ref.shape), link])


def _cell(text: str) -> str:
    """Return a text for a cell; MLflow does not break long names, which would move other content off the page."""
    line = text.replace("|", "/").replace("\n", " ")
    return line if max(map(len, line.split()), default=0) <= _MAX_CELL else shorten(line, _MAX_CELL)


class PageUrls(msgspec.Struct, frozen=True):
    """The addresses of MLflow's pages of one DAG run.

    ui: the address of the server; where it is empty the addresses are relative, for links on MLflow's own pages. runs:
    MLflow's ids of the step runs. models: its ids of the models, by digest.
    """

    experiment_id: str = ""
    ui: str = ""
    runs: Mapping[StepRunId, str] = msgspec.field(default_factory=dict)
    models: Mapping[str, str] = msgspec.field(default_factory=dict)

    def run_url(self, run_id: str) -> str:
        """Return the page of a run."""
        return self._page_url(f"runs/{run_id}")

    def step_url(self, run: StepRunId) -> str:
        """Return the page of a step run; empty where MLflow does not have it."""
        run_id = self.runs.get(run, "")
        return self.run_url(run_id) if run_id else ""

    def key_url(self, key: str) -> str:
        """Return the list with the run of a step run of this DAG."""
        return self._search_url(f'tags."zen.key" = "{key}"')

    def task_url(self, run: StepRunId) -> str:
        """Return the list of a task's runs in this DAG run."""
        return self._search_url(f'tags."zen.run_id" = "{run.run_id}" AND tags."zen.task_id" = "{run.task_id}"')

    def versions_url(self, run: StepRun) -> str:
        """Return the list of versions of the step's registered model, or else of the task's computed runs."""
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
