"""The record with which a task's step begins: its id, source, parameters and code version; and the task's label."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.models.model import as_model
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.steps.arguments import describe_as_json

if TYPE_CHECKING:
    from airflow_zen.operators.ml_step import MLStepOperator
    from airflow_zen.operators.substeps import Substep
    from airflow_zen.steps.arguments import Arguments

_COMMIT = r"[0-9a-f]{40}|[0-9a-f]{64}"
_LABEL_LIMIT = 100


def new_step_run(operator: MLStepOperator, context: Any, cache: CacheState, why: str, label: str) -> StepRun:
    """Return the record with which the step of a task begins."""
    ti, registration, trial = context["ti"], as_model(operator.model), operator.step.trial
    return StepRun(
        id=step_run_id(ti),
        cache=cache,
        why=why,
        model=registration.name if registration else "",
        registration=registration.options() if registration else {},
        label=label,
        source=operator.step.source,
        owner=operator.owner,
        clear_number=clear_number(context),
        log_url=str(getattr(ti, "log_url", "") or ""),
        code_version=code_version(getattr(ti, "bundle_instance", None), operator.python_callable),
        dag_version=str(getattr(ti, "dag_version_id", None) or ""),
        dag_run_parameters=describe_as_json(_dag_run_parameters(operator, context)),
        sweep={"name": trial.sweep, "metric": trial.metric} if trial else {},
    )


def step_run_id(ti: Any) -> StepRunId:
    """Return the id of a try of a task instance."""
    return StepRunId(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index, ti.try_number)


def clear_number(context: Any) -> int:
    """Return how often tasks of this DAG run have been cleared."""
    return int(getattr(context["dag_run"], "clear_number", 0) or 0)


def _dag_run_parameters(operator: MLStepOperator, context: Any) -> dict[str, Any]:
    """Return the values of the DAG's params, and the rest of the run's conf as `conf.<name>`."""
    declared, values = operator.dag.params, context.get("params") or {}
    params = {name: values[name] for name in declared if name in values}
    conf = {f"conf.{name}": value for name, value in (context["dag_run"].conf or {}).items() if name not in params}
    return params | conf


def code_version(bundle: Any, function: Callable[..., Any]) -> str:
    """Return the version of the DAG bundle, or the commit around the function's file, which may have changed since."""
    if version := getattr(bundle, "version", None):
        return str(version)
    try:
        return checked_out_commit(Path(inspect.unwrap(function).__code__.co_filename).resolve())
    except (OSError, AttributeError, ValueError):
        return ""


def checked_out_commit(path: Path) -> str:
    """Return the commit that is checked out in the git repository around a path; empty outside of one.

    Read from the repository's files, because git may not be installed and takes longer.
    """
    dot_git = next((folder / ".git" for folder in path.parents if (folder / ".git").exists()), None)
    if dot_git is None:
        return ""
    # In a worktree or a submodule `.git` is a file that names the directory.
    git_dir = dot_git if dot_git.is_dir() else dot_git.parent / dot_git.read_text().strip().removeprefix("gitdir: ")
    head = (git_dir / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head if re.fullmatch(_COMMIT, head) else ""
    ref, commondir = head.removeprefix("ref: "), git_dir / "commondir"
    common_dir = git_dir / commondir.read_text().strip() if commondir.exists() else git_dir
    for folder in (git_dir, common_dir):
        if (folder / ref).is_file():
            return (folder / ref).read_text().strip()
    packed_refs = common_dir / "packed-refs"
    lines = packed_refs.read_text().splitlines() if packed_refs.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "")


def mapped_task_label(operator: MLStepOperator, arguments: Arguments, part: Substep | None) -> str:
    """Return the plain arguments that a mapped task, or a part of one, is mapped over (`depth=8`); empty without any."""
    if part is None:
        mapped = operator.dag.get_task(operator.task_id)
        values = getattr(getattr(mapped, "op_kwargs_expand_input", None), "value", None)
    else:
        values = part.mapped
    trial = operator.step.trial
    names = trial.parameters if trial else values if isinstance(values, dict) else ()
    bound = arguments.by_name()
    plain = {name: bound[name] for name in names if isinstance(bound.get(name), str | int | float | bool)}
    text = ", ".join(f"{name}={_label_text(value)}" for name, value in plain.items())
    return _shorten_label(text)


def cache_label(run: StepRun) -> str:
    """Return the label of a task by its arguments, and by how it used the cache."""
    if run.id.map_index >= 0:
        pruned = " (pruned)" if run.is_pruned else ""
        return f"{run.label or run.id.map_index}{pruned}{' (cached)' if run.is_hit else ''}"
    return "cached" if run.is_hit else _shorten_label(f"computed: {run.why}" if run.why else "computed")


def _label_text(value: Any) -> Any:
    return f"{value:.5g}" if type(value) is float else describe_as_json(value)


def _shorten_label(text: str) -> str:
    return text if len(text) <= _LABEL_LIMIT else f"{text[: _LABEL_LIMIT - 1]}…"
