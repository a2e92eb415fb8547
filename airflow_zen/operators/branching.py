"""Branching after a validation: which tasks downstream of a step are skipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.utils.skipmixin import SkipMixin
from airflow.sdk.bases.xcom import BaseXCom

from airflow_zen.materializers.annotations import SKIP

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.operators.ml_step import MLStepOperator
    from airflow_zen.steps.output_checks import FailedReport
    from airflow_zen.steps.step import Step


class _Skipping(SkipMixin):
    """Airflow's own skipping, for a task whose operator does not derive from it."""

    task_id = ""


def skip_downstream(
    operator: MLStepOperator,
    step: Step,
    context: Any,
    outputs: Mapping[str, ArtifactRef],
    failed: Sequence[FailedReport],
    result: Any,
) -> None:
    """Skip the tasks that failed reports declare; if none failed, those that run only after a failure.

    `result` is what the task returns: Airflow stores no result of a task that skips others, so it is pushed first.
    """
    actions = [report.action for report in failed]
    branches = [each for each in map(step.failure_action, outputs) if isinstance(each, tuple)]
    if SKIP not in actions and not branches:
        return
    push_result(operator, context, result)
    skipping, ti = _Skipping(), context["ti"]  # type: ignore[no-untyped-call]
    skipping.task_id = operator.task_id
    if SKIP in actions:
        skipping.skip(ti, operator.downstream_list)
        return
    followed = {task_id for action in actions if isinstance(action, tuple) for task_id in action}
    unfollowed = {task_id for branch in branches for task_id in branch} - followed
    wanted = followed or {task.task_id for task in operator.downstream_list} - unfollowed
    skipping.skip_all_except(ti, _known_tasks(operator, wanted))


def push_result(operator: MLStepOperator, context: Any, result: Any) -> None:
    """Push the result of a task that does not return it."""
    if result is None or not operator.do_xcom_push:
        return
    for key, value in result.items() if operator.multiple_outputs else ():
        context["ti"].xcom_push(key, value)
    context["ti"].xcom_push(BaseXCom.XCOM_RETURN_KEY, result)


def _known_tasks(operator: MLStepOperator, task_ids: Iterable[str]) -> list[str]:
    """Return task ids of the DAG; an id may lack the prefix of the step's task group."""
    known = set(operator.dag.task_ids)
    group = operator.task_id.removesuffix(str(operator.label))
    return [task_id if task_id in known else f"{group}{task_id}" for task_id in sorted(task_ids)]
