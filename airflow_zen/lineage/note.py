"""What people read on a step run's page: links, artifacts, code."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.limits import ELLIPSIS, MAX_TAG_VALUE, short_digest
from airflow_zen.lineage.step_run import StepRun

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
    if run.origin and run.cache == "hit":
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
