"""The labels of tasks on Airflow's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_zen.steps.arguments import describe_as_json

if TYPE_CHECKING:
    from airflow_zen.operators.ml_step import MLStepOperator
    from airflow_zen.operators.task_parts import TaskPart
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.steps.arguments import Arguments

_LABEL_LIMIT = 100


def mapped_task_label(operator: MLStepOperator, arguments: Arguments, part: TaskPart | None) -> str:
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
