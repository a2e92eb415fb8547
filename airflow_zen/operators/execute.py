"""One execution of an `MLStepOperator` in the task's process; loaded only there, never while DAGs are parsed."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, context_merge

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import StepInterrupted
from airflow_zen.operators.assets import emit_asset_events
from airflow_zen.operators.code_version import code_version
from airflow_zen.operators.hook_lineage import report_inputs, report_outputs
from airflow_zen.operators.links import MlflowRunLink
from airflow_zen.operators.stack_selection import (
    check_inputs_in_stack,
    is_stack_overridden,
    resolve_stack_name,
    zen_conf,
)
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.steps.arguments import Arguments, describe_as_json
from airflow_zen.steps.run import RunHooks, run_step

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.operators.ml_step import MLStepOperator
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Step


def execute(operator: MLStepOperator, context: Any) -> Any:
    """Run the operator's step; return its outputs as refs on the wire, as XCom holds them."""
    with raise_on_sigterm(operator.on_kill):
        settings = Settings.read(resolve_stack_name(context["dag_run"].conf, operator.stack))
        stack = open_stack(settings)
        arguments = bind_arguments(operator, context, stack)
        step_run = new_step_run(
            operator,
            context,
            resolve_cache_mode(operator, context, settings, stack.records),
            mapped_task_label(operator, arguments),
        )
        step = operator.step.with_cache_defaults(settings.cache_defaults)
        run = run_step(step, arguments, stack, step_run, TaskRunHooks(operator, context, settings))
    report_outputs(operator, run.outputs.values())
    annotate_task(operator, context, run)
    emit_asset_events(
        operator,
        context,
        run,
        step.outputs.artifact_names,
        stack_overridden=is_stack_overridden(context, operator, settings),
    )
    return to_xcom(step, run.outputs)


def to_xcom(step: Step, outputs: Mapping[str, ArtifactRef]) -> Any:
    """Give a step's outputs as XCom holds them: one ref on the wire, a dict of them by output name, or a list."""
    wires = {name: ref.to_wire() for name, ref in outputs.items()}
    if step.outputs.each:
        return list(wires.values())
    return wires if step.outputs.is_multiple else next(iter(wires.values()), None)


def bind_arguments(operator: MLStepOperator, context: Any, stack: Stack) -> Arguments:
    """Bind the rendered arguments, and the names that the function asks Airflow's context for.

    Versions of named artifacts that are asked for are looked up now.
    """
    given = frozenset(operator.op_kwargs)
    context_merge(context, operator.op_kwargs, templates_dict=operator.templates_dict)
    kwargs = operator.determine_kwargs(context)
    return Arguments.bind(operator.python_callable, operator.op_args, kwargs, frozenset(kwargs) - given, stack.names)


def step_run_id(ti: Any) -> StepRunId:
    """Identify the try of a task instance."""
    return StepRunId(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index, ti.try_number)


def new_step_run(operator: MLStepOperator, context: Any, cache_mode: tuple[CacheState, str], label: str) -> StepRun:
    """Open the record of this try; `cache_mode` says whether results may be reused, and why not."""
    ti = context["ti"]
    cache, why = cache_mode
    return StepRun(
        id=step_run_id(ti),
        cache=cache,
        why=why,
        model=operator.model,
        label=label,
        source=operator.step.source,
        owner=operator.owner,
        clear_number=clear_number(context),
        log_url=str(getattr(ti, "log_url", "") or ""),
        code_version=code_version(getattr(ti, "bundle_instance", None), operator.python_callable),
        dag_version=str(getattr(ti, "dag_version_id", None) or ""),
    )


def resolve_cache_mode(
    operator: MLStepOperator, context: Any, settings: Settings, records: StepRunRecords
) -> tuple[CacheState, str]:
    """Decide whether results may be reused: the run's conf first, then the step, then the deployment.

    `recompute` runs the function and remembers its result, `off` does neither look up nor remember.
    """
    zen = zen_conf(context["dag_run"].conf)
    requested = zen.get("cache")
    if requested is False:
        return CacheState.OFF, "the DAG run was triggered with {'zen': {'cache': false}}"
    if operator.cache is False and requested is not True:
        return CacheState.OFF, "the step is declared cache=False"
    if operator.cache is None and requested is not True and not settings.cache:
        return CacheState.OFF, "[zen] cache is false"
    if _includes_task(zen.get("recompute"), operator.task_id):
        return CacheState.RECOMPUTE, "the DAG run was triggered to recompute it"
    if was_cleared_by_user(operator, context, records):
        return CacheState.RECOMPUTE, "the task was cleared"
    return CacheState.MISS, ""


def _includes_task(tasks: Any, task_id: str) -> bool:
    return task_id in ([tasks] if isinstance(tasks, str) else tasks if isinstance(tasks, list) else [])


class TaskRunHooks(RunHooks):
    """Show the lineage run in the task's log and on its page, while it is still running.

    A skipped task has not failed: its run is FINISHED, without outputs.
    """

    def __init__(self, operator: MLStepOperator, context: Any, settings: Settings) -> None:
        self.operator = operator
        self.settings = settings
        self.ti = context["ti"]

    def check_inputs(self, inputs: Mapping[str, ArtifactRef]) -> None:
        """Refuse what lies in another stack, and tell Airflow of the rest."""
        check_inputs_in_stack(inputs, self.settings, f"step {self.operator.task_id!r}")
        report_inputs(self.operator, inputs.values())

    def final_state(self, error: BaseException) -> StepState:
        """Tell a task that was skipped from one that failed."""
        return StepState.FINISHED if isinstance(error, AirflowSkipException) else super().final_state(error)

    def on_opened(self, opened: OpenedRun) -> None:
        """Log the address, and push it where Airflow looks for the button."""
        if opened.url:
            self.operator.mlflow_url = opened.url
            self.operator.log.info("MLflow run: %s", opened.url)
            self.ti.xcom_push(key=MlflowRunLink.key, value=opened.url)


@contextmanager
def raise_on_sigterm(on_kill: Callable[[], None]) -> Iterator[None]:
    """Raise `StepInterrupted` inside the block when the task is told to stop, after `on_kill`.

    Airflow follows SIGTERM with SIGKILL after 5 seconds; until then `finally` blocks run, and the
    step run is closed as killed. A second SIGTERM is ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        on_kill()
        raise StepInterrupted("SIGTERM")

    previous_handler = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def was_cleared_by_user(operator: MLStepOperator, context: Any, records: StepRunRecords) -> bool:
    """Tell whether a person asked for this task to run again.

    Clearing raises the number of tries that Airflow allows. A backfill that reprocesses a DAG run clears all of
    its tasks, and wants of them what has changed: in its runs a task is cleared by hand when a step above it
    was not cleared with it. That takes two requests for each step above, and only there.
    """
    ti = context["ti"]
    if int(getattr(ti, "max_tries", 0) or 0) <= int(operator.retries or 0):
        return False
    if not _is_backfill(context["dag_run"]):
        return True
    current_clear_number = clear_number(context)
    upstream_runs = [
        records.latest_try(ti.dag_id, ti.run_id, task_id) for task_id in sorted(operator.upstream_task_ids)
    ]
    return any(run is not None and run.clear_number < current_clear_number for run in upstream_runs)


def clear_number(context: Any) -> int:
    """Say how often tasks of this DAG run have been cleared."""
    return int(getattr(context["dag_run"], "clear_number", 0) or 0)


def _is_backfill(dag_run: Any) -> bool:
    return str(getattr(dag_run.run_type, "value", dag_run.run_type)) == "backfill"


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
    cached = run.is_hit
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
