"""Show in Airflow what a step did: the label of a mapped task, and that a result was reused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_zen.lineage.step_run import StepRun
from airflow_zen.steps.arguments import Arguments, describe_as_json

if TYPE_CHECKING:
    from airflow_zen.operators.ml_step import MLStepOperator

log = logging.getLogger("airflow_zen.operators")

_LABEL_LIMIT = 100


def mapped_task_label(operator: MLStepOperator, arguments: Arguments) -> str:
    """Name a mapped task by the plain arguments it is mapped over (`depth=8`); empty where there are none."""
    mapped = operator.dag.get_task(operator.task_id)
    values = getattr(getattr(mapped, "op_kwargs_expand_input", None), "value", None)
    if not isinstance(values, dict):
        return ""
    bound = arguments.bound.arguments
    plain = {name: bound[name] for name in values if isinstance(bound.get(name), str | int | float | bool)}
    text = ", ".join(f"{name}={describe_as_json(value)}" for name, value in plain.items())
    return text if len(text) <= _LABEL_LIMIT else f"{text[: _LABEL_LIMIT - 1]}…"


def annotate_task(operator: MLStepOperator, context: Any, run: StepRun) -> None:
    """Label a mapped task, and mark a reused result."""
    cached = run.cache == "hit"
    if run.id.map_index >= 0 and context.get("map_index_template") is None:
        context["zen_label"] = f"{run.label or run.id.map_index}{' (cached)' if cached else ''}"
        context["map_index_template"] = "{{ zen_label }}"
    if cached:
        _store_task_state(context, f"hit: {run.origin}")


def _store_task_state(context: Any, text: str) -> None:
    """Write into the task's state store, where this Airflow has one (3.3)."""
    if "task_state_store" not in context:
        return
    try:
        context["task_state_store"].set("zen.cache", text)
    except Exception as error:  # noqa: BLE001 - a remark is never worth a task
        log.debug("The task state store took no remark: %s", error)
