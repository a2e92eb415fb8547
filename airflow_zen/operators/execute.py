"""The execution of an `MLStepOperator` in the task's process; not loaded while DAGs are parsed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, context_merge
from airflow.sdk.definitions.xcom_arg import MapXComArg
from msgspec.structs import replace

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.config.model_selectors import SelectorResolver
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import SettingsError, StepDeferred, ValidationFailed, log_errors
from airflow_zen.operators.artifact import load_keyword_arguments
from airflow_zen.operators.assets import emit_asset_events
from airflow_zen.operators.links import MlflowRunLink, ProducedByLink, VersionsLink, add_links, page_link
from airflow_zen.operators.stack_selection import (
    check_inputs_in_stack,
    is_stack_overridden,
    resolve_runtime,
    resolve_stack_name,
    zen_conf,
)
from airflow_zen.operators.step_run import cache_label, clear_number, mapped_task_label, new_step_run
from airflow_zen.runs.step_run import CacheState, StepRun, StepState
from airflow_zen.steps.arguments import Arguments, describe_as_json
from airflow_zen.steps.outputs import checked_output
from airflow_zen.steps.run import RunHooks, run_step
from airflow_zen.steps.runtime import raise_on_sigterm

if TYPE_CHECKING:
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.operators.ml_step import MLStepOperator
    from airflow_zen.operators.substeps import Substep
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.stack import Stack
    from airflow_zen.steps.output_checks import FailedReport
    from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.operators")


def execute(operator: MLStepOperator, context: Any) -> Any:
    """Run the operator's step; return its outputs as refs in their wire form, for XCom."""
    try:
        opened = open_task_stack(operator, context)
    except SettingsError as error:
        # The failed run is recorded in the active stack, unless that is the one that cannot be opened.
        with suppress(SettingsError):
            settings = Settings.read()
            execute_in_stack(operator, context, settings, open_stack(settings), refusal=error)
        raise
    return execute_in_stack(operator, context, *opened)[0]


def open_task_stack(operator: Any, context: Any) -> tuple[Settings, Stack]:
    """Open the stack of the DAG run or of an operator; return it with its settings."""
    settings = Settings.read(resolve_stack_name(context["dag_run"].conf, operator.stack))
    return settings, open_stack(settings)


def execute_in_stack(
    operator: MLStepOperator,
    context: Any,
    settings: Settings,
    stack: Stack,
    part: Substep | None = None,
    refusal: Exception | None = None,
) -> tuple[Any, StepRun]:
    """Run the operator's step, as a `part` if its task runs several; return its outputs for XCom, and its record.

    A `refusal` is raised instead, and recorded.
    """
    with raise_on_sigterm(operator.on_kill):
        run_hooks = _TaskRunHooks(operator, context, settings)
        try:
            step, arguments = _refuse(refusal) if refusal else resolve_step(operator, context, settings, stack)
        except Exception as error:  # noqa: BLE001 - raised by the hooks, so that the run is recorded as failed
            run_hooks.refusal, step, arguments = error, operator.step, Arguments.bind(lambda: None, (), {})
        cache, why = resolve_cache_mode(operator, context, settings, stack.records)
        run = new_step_run(operator, context, cache, why, mapped_task_label(operator, arguments, part))
        if part is None:
            run = replace(run, inputs=_mapped_keyword_arguments(operator, context))
        else:
            run = replace(run, inputs=part.inputs)
            run_hooks.become_part(step, arguments, stack, run)
        try:
            run = _run_or_defer(step, arguments, stack, run, run_hooks)
        except ValidationFailed as error:
            # The data will not change: Airflow does not retry this exception.
            push_failed_result(operator, step, context, error)
            raise AirflowFailException(str(error)) from None
    report_lineage("add_output_asset", operator, run.outputs.values())
    with log_errors("The task has no label"):
        own = _own_label(operator, context)
        set_label(operator, context, cache_label(run) if own is None else own)
    with log_errors("The asset events of this task are incomplete"):
        names, stack_overridden = step.outputs.artifact_names, is_stack_overridden(context, operator, settings)
        operator.on_computed(run, context, stack_overridden=stack_overridden)
        emit_asset_events(operator, context, run, names, stack, stack_overridden=stack_overridden)
    result = to_xcom(step, run.outputs)
    if run_hooks.has_reports(step, run):
        from airflow_zen.operators.branching import skip_downstream

        skip_downstream(operator, step, context, run.outputs, run_hooks.failed, result)
    return result, run


def _refuse(refusal: Exception) -> NoReturn:
    raise refusal


def push_failed_result(operator: MLStepOperator, step: Step, context: Any, error: ValidationFailed) -> None:
    """Push the stored outputs of a task that fails, for tasks that run after a failure."""
    from airflow_zen.operators.branching import push_result

    outputs: Any = error.outputs
    if step.outputs.each or set(step.outputs.names) <= set(outputs):
        push_result(operator, context, to_xcom(step, outputs))


def _run_or_defer(step: Step, arguments: Arguments, stack: Stack, run: StepRun, run_hooks: _TaskRunHooks) -> StepRun:
    """Run the step, or defer the task while the step runs elsewhere; stop what a resumed step has left there."""
    operator = run_hooks.operator
    try:
        return run_step(step, arguments, stack, run, run_hooks)
    except StepDeferred as deferred:
        trigger: Any = deferred.trigger
        trigger.step = {"stack": run_hooks.settings.stack, "run": str(run.id)}
        operator.defer(trigger=trigger, method_name="resume")
    finally:
        if operator.event is not None:
            stack.records.delete_suspended(run.id)
            step.runtime.discard(run.id, stack)


def resolve_step(operator: MLStepOperator, context: Any, settings: Settings, stack: Stack) -> tuple[Step, Arguments]:
    """Return the operator's step with the settings of the deployment and of the DAG run, and its arguments.

    Requested versions of named artifacts and of registered models are looked up here.
    """
    selectors = SelectorResolver(settings, stack)
    operator.look_up_arguments(selectors)
    runtime = resolve_runtime(context["dag_run"].conf, operator.runtime, settings, operator.hints)
    step = replace(operator.step.with_cache_defaults(settings.cache_defaults), runtime=runtime)
    return step, _bind_arguments(operator, step, context, selectors)


def to_xcom(step: Step, outputs: Mapping[str, ArtifactRef]) -> Any:
    """Return a step's outputs as XCom holds them: one ref in its wire form, a dict of them by output name, or a list.

    The reports of declared checks are not among them.
    """
    wires = {name: ref.to_wire() for name, ref in outputs.items() if not checked_output(name)}
    if step.outputs.each:
        return list(wires.values())
    return wires if step.outputs.is_multiple else next(iter(wires.values()), None)


def _bind_arguments(operator: MLStepOperator, step: Step, context: Any, selectors: SelectorResolver) -> Arguments:
    """Bind the rendered arguments, as their declared types, and the names that the function takes from Airflow's context."""
    given = frozenset(operator.op_kwargs)
    context_merge(context, operator.op_kwargs, templates_dict=operator.templates_dict)
    kwargs = operator.determine_kwargs(context)
    from_context = frozenset(kwargs) - given
    bound = Arguments.bind(step.function, operator.op_args, kwargs, from_context, selectors, step.parameter_type)
    return replace(bound, task_context=context, selected=selectors.selected)


def resolve_cache_mode(
    operator: MLStepOperator, context: Any, settings: Settings, records: StepRunRecords
) -> tuple[CacheState, str]:
    """Return the step's use of the cache, and the reason. The run's conf takes precedence, then the step's option."""
    zen = zen_conf(context["dag_run"].conf)
    requested, recomputed = zen.get("cache"), zen.get("recompute")
    if requested is False:
        return CacheState.OFF, "the DAG run was triggered with {'zen': {'cache': false}}"
    if operator.cache is False and requested is not True:
        return CacheState.OFF, "the step is declared cache=False"
    if operator.cache is None and requested is not True and not settings.cache:
        return CacheState.OFF, "[zen] cache is false"
    if recomputed == operator.task_id or (isinstance(recomputed, list) and operator.task_id in recomputed):
        return CacheState.RECOMPUTE, "the DAG run was triggered to recompute it"
    if was_cleared_by_user(operator, context, records):
        return CacheState.RECOMPUTE, "the task was cleared"
    return CacheState.MISS, ""


def was_cleared_by_user(operator: MLStepOperator, context: Any, records: StepRunRecords) -> bool:
    """Whether a user asked for this task to run again.

    Clearing raises the number of tries that Airflow allows. A backfill that reprocesses a DAG run clears all of its
    tasks, to run those that have changed: there a task was cleared by hand when an upstream step was not cleared with
    it. That takes two requests for each upstream step, and only in backfills.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    if int(getattr(ti, "max_tries", 0) or 0) <= int(operator.retries or 0):
        return False
    if str(getattr(dag_run.run_type, "value", dag_run.run_type)) != "backfill":
        return True
    upstream = (records.latest_try(ti.dag_id, ti.run_id, task_id) for task_id in sorted(operator.upstream_task_ids))
    return any(run is not None and run.clear_number < clear_number(context) for run in upstream)


class _TaskRunHooks(RunHooks):
    """Shows the lineage run in the task's log and on its page while the step runs."""

    can_defer = True
    is_part = False

    def __init__(self, operator: MLStepOperator, context: Any, settings: Settings) -> None:
        self.operator = operator
        self.settings = settings
        self.event = operator.event
        if operator.execution_timeout:
            self.deadline = time.time() + operator.execution_timeout.total_seconds()
        self.failed: Sequence[FailedReport] = ()
        self.refusal: Exception | None = None
        self.context = context
        self.outlet_events = context["outlet_events"]
        self.ti = context["ti"]
        add_links(operator, page_link(self.ti))

    def become_part(self, step: Step, arguments: Arguments, stack: Stack, run: StepRun) -> None:
        """Run as one of several steps of a task, which does not end before they have all ended.

        In a retry of the task its result is taken over if an earlier try has computed it.
        """
        self.can_defer, self.is_part = False, True
        if run.cache is not CacheState.MISS and run.id.try_number > 1:
            from airflow_zen.operators.substeps import find_finished

            self.finished = find_finished(step, arguments, stack, run)

    def check_inputs(self, inputs: Mapping[str, ArtifactRef]) -> None:
        """Raise an error for refused arguments and for inputs of another stack; report the inputs to Airflow."""
        if self.refusal is not None:
            raise self.refusal
        check_inputs_in_stack(inputs, self.settings, f"step {self.operator.task_id!r}")
        report_lineage("add_input_asset", self.operator, inputs.values())

    def take_event(self, item: Any) -> bool:
        """Add the extras of a yielded `Metadata` to the event of its asset, as Airflow does."""
        from airflow.sdk import Metadata

        if not isinstance(item, Metadata):
            return False
        extra = describe_as_json(item.extra)
        self.outlet_events[item.asset].extra.update(extra)
        if item.alias:
            self.outlet_events[item.alias].add(item.asset, extra=extra)
        return True

    def on_failed_checks(self, failed: Sequence[FailedReport]) -> None:
        """Store the failed reports until the task has a result."""
        self.failed = failed

    def has_reports(self, step: Step, run: StepRun) -> bool:
        """Whether a report may decide which tasks downstream are skipped."""
        return bool(self.failed) or any(isinstance(step.failure_action(output), tuple) for output in run.outputs)

    def final_state(self, error: BaseException) -> StepState:
        """Return FINISHED for a skipped task, which has not failed."""
        return StepState.FINISHED if isinstance(error, AirflowSkipException) else super().final_state(error)

    def on_opened(self, opened: OpenedRun, *, is_brief: bool = False) -> None:
        """Log the address of the lineage run, and push it for the button on the task's page while the step runs.

        The other buttons, and all of a brief run, appear when the task has ended: Airflow pushes them then.
        """
        if opened.url:
            add_links(self.operator, {VersionsLink.name: opened.versions_url})
            self.operator.log.info("MLflow run: %s", opened.url)
            if not (is_brief or self.is_part):
                with log_errors("The task's page has no link to its MLflow run yet"):
                    self.ti.xcom_push(key=MlflowRunLink().xcom_key, value=opened.url)
                    # Airflow would push it again when the task has ended, which takes as long as a request to MLflow.
                    return
            add_links(self.operator, {MlflowRunLink.name: opened.url})

    def on_reused(self, origin: str, page: str) -> None:
        """Add the button to the run that computed the result, and a note in the task's state store.

        Airflow has the state store from 3.3 on.
        """
        add_links(self.operator, {ProducedByLink.name: page})
        if "task_state_store" in self.context:
            with log_errors("The task state store does not say that the result was reused"):
                self.context["task_state_store"].set("zen.cache", f"hit: {origin}")


def _mapped_keyword_arguments(operator: MLStepOperator, context: Any) -> dict[str, ArtifactRef]:
    """Return the artifact whose dict a mapped task gets as keyword arguments; it is an input, its values parameters."""
    mapped = getattr(operator.dag.get_task(operator.task_id), "op_kwargs_expand_input", None)
    value = getattr(mapped, "value", None)
    if not isinstance(value, MapXComArg) or value.callables[-1] is not load_keyword_arguments:
        return {}
    wire = MapXComArg(value.arg, value.callables[:-1]).resolve(context)[context["ti"].map_index]
    return {"kwargs": ArtifactRef.from_wire(wire)} if ArtifactRef.is_wire(wire) else {}


def _own_label(operator: MLStepOperator, context: Any) -> str | None:
    """Return the label by the user's own template."""
    template, context["map_index_template"] = context.get("map_index_template"), None
    return None if template is None else str(operator.dag.get_template_env().from_string(template).render(context))


def set_label(operator: Any, context: Any, label: str) -> None:
    """Label a task, such as with how it used the cache, by a template that Airflow renders after the task.

    A task that is not mapped has a label too: Airflow shows it in the list of a DAG run's task instances. A template that
    renders to anything but its label fails the task: an error in the user's own, or the number that a text such as `0`
    becomes in a DAG with `render_template_as_native_obj`. A quoted text becomes the text there.
    """
    environment = operator.dag.get_template_env()
    template = f"{environment.variable_start_string} zen_label {environment.variable_end_string}"
    for text in (label, repr(label)):
        if environment.from_string(template).render({"zen_label": text}) == label:
            context.update(zen_label=text, map_index_template=template)
            # Airflow sends it with the state of the task; a label that it did not know takes a request of its own.
            context["ti"].rendered_map_index = label
            return


def report_lineage(method: str, operator: Any, refs: Iterable[ArtifactRef]) -> None:
    """Report artifacts to Airflow's lineage collector, for readers such as OpenLineage; never raises.

    `method` is `add_input_asset` or `add_output_asset`.
    """
    with log_errors("Airflow's lineage collector has no record of an artifact"):
        # Even the collector without a reader loads the asset handlers of every provider: 0.2 s for Amazon's.
        if not _has_lineage_readers():
            return
        from airflow.providers.common.compat.sdk import get_hook_lineage_collector

        add = getattr(get_hook_lineage_collector(), method)
        for ref in {ref.digest: ref for ref in refs}.values():
            uri = ref.uri if "://" in ref.uri else f"file://{ref.uri}"
            extra = {"name": ref.name, "digest": ref.digest, "type": ref.type, "shape": ref.shape, "size": ref.size}
            add(operator, uri=uri, asset_extra=extra)


def _has_lineage_readers() -> bool:
    try:
        from airflow.sdk import plugins_manager
    except ImportError:  # Airflow 3.1
        from airflow import plugins_manager as core_plugins

        core_plugins.initialize_hook_lineage_readers_plugins()  # type: ignore[attr-defined]
        return bool(core_plugins.hook_lineage_reader_classes)  # type: ignore[attr-defined]
    return bool(plugins_manager.get_hook_lineage_readers_plugins())
