"""`run_step`: the execution of one step, from the look-up in the cache to the record of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_zen.caching.step_cache import CacheEntry, KeyRecord
from airflow_zen.errors import StepDeferred, StepInterrupted, log_errors
from airflow_zen.lineage.recorder import MetadataCollector
from airflow_zen.runs.step_run import CacheState, StepRun, StepState
from airflow_zen.steps.arguments import Arguments, describe_as_json
from airflow_zen.steps.cache_key import CacheKey, StepPlan, plan_step
from airflow_zen.steps.runtime import Execution, StepResult

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.artifacts.version import RecordedVersion
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.stack import Stack
    from airflow_zen.steps.materialize import BackgroundPreviews
    from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.steps")

_STARTED = "started"


class RunHooks:
    """What the caller of `run_step` does while the step runs.

    can_defer: whether it handles `StepDeferred`; the step's code may run until `deadline`, in seconds since the epoch.
    suspended: what an earlier process left with one, and event: what its trigger said.
    """

    can_defer = False
    deadline: float | None = None
    suspended: Mapping[str, str] = MappingProxyType({})
    event: Mapping[str, Any] | None = None

    def check_inputs(self, inputs: Mapping[str, ArtifactRef]) -> None:
        """Check the inputs before anything else; an exception fails the run."""

    def on_opened(self, opened: OpenedRun) -> None:
        """Handle the start of the lineage run."""

    def on_reused(self, page: str) -> None:
        """Handle the reuse of a result; `page` shows the run that computed it, and is empty where none does."""

    def take_event(self, item: Any) -> bool:
        """Handle what the function yields as the description of an event; return whether it is one."""
        return False

    def final_state(self, error: BaseException) -> StepState:
        """Return the state of a run that raised `error`."""
        return StepState.KILLED if isinstance(error, StepInterrupted | KeyboardInterrupt) else StepState.FAILED


def run_step(
    step: Step, arguments: Arguments, stack: Stack, run: StepRun, run_hooks: RunHooks | None = None
) -> StepRun:
    """Execute a step, or reuse the result of equal work; return the finished record.

    `run` identifies the execution, and may have inputs beside the arguments. An exception of the function is raised again after the run is closed as failed,
    or as killed for an interrupt.
    """
    run_hooks = run_hooks or RunHooks()
    stack = step.extend_stack(stack)
    suspended = dict(run_hooks.suspended)
    started = float(suspended.pop(_STARTED, 0)) or stack.clock()
    run = replace(run, started=started, inputs={**run.inputs, **arguments.inputs})
    run = replace(run, parameters=arguments.parameters())
    try:
        run_hooks.check_inputs(run.inputs)
        plan = plan_step(step, arguments, stack, run, acquire_lease=True)
    except BaseException as error:
        _finish_run(stack, _failed_run(run, stack, error, run_hooks), stack.lineage.start(run, suspended))
        raise
    run = _apply_plan(plan, run, step)
    if plan.entry:
        return _reuse_entry(step, plan.entry, stack, run, run_hooks, suspended)
    collector = MetadataCollector(frozenset(run.inputs), frozenset(step.outputs.names))
    with plan.lease, ThreadPoolExecutor(1) as pool, stack.scratch_directory() as scratch:
        opening = pool.submit(stack.lineage.start, run, suspended)
        execution = Execution(step, arguments, stack, run, opening, run_hooks, collector, scratch)
        try:
            result = step.runtime.execute(execution)
            run = replace(
                run,
                seconds=stack.clock() - run.started,
                model_inputs=result.model_inputs,
                metadata=describe_as_json(collector.facts),
            )
        except StepDeferred as deferred:
            deferred.suspended = {**stack.lineage.suspend(run, opening.result()), _STARTED: str(run.started)}
            raise
        except BaseException as error:
            run = replace(run, metadata=describe_as_json(collector.facts))
            _finish_run(stack, _failed_run(run, stack, error, run_hooks), opening.result())
            raise
        run = replace(
            run,
            state=StepState.FINISHED,
            ended=stack.clock(),
            outputs={name: artifact.ref for name, artifact in result.saved.items()},
            summaries={artifact.ref.digest: artifact.summary for artifact in result.saved.values()},
        )
        has_result = run.outputs or step.outputs.each or step.cache_always
        if not (plan.key and has_result and _store_in_cache(plan.key, run, stack, opening.result())):
            plan.lease.mark_without_result()
        previews = _begin_previews(run, step, stack, result)
        run = _finish_run(stack, run, opening.result(), step)
        if previews is not None:
            previews.attach(run, opening.result())
        return run


def _apply_plan(plan: StepPlan, run: StepRun, step: Step) -> StepRun:
    """Log the plan, and write it into the record."""
    if plan.cache is CacheState.OFF:
        log.info("Not cached: %s", plan.reason)
    elif plan.cache is CacheState.MISS and run.cache is not CacheState.RECOMPUTE:
        log.info("not cached yet: %s", plan.reason)
    for warning in plan.key.warnings if plan.key else ():
        log.warning("%s Set cache=False on step %r if its result must be new each time.", warning, step.name)
    return replace(run, cache=plan.cache, why=plan.reason, cache_key=plan.key.key if plan.key else "")


def _reuse_entry(
    step: Step, entry: CacheEntry, stack: Stack, run: StepRun, run_hooks: RunHooks, suspended: Mapping[str, str]
) -> StepRun:
    """Record the run as a hit, with the refs of the entry as its outputs."""
    outputs = {
        name: stack.store.relocate(ref).reused_from(entry.origin).with_name(step.artifact_name(run.id, name))
        for name, ref in entry.outputs.items()
    }
    log.info("cached: reusing the result of %s (%.1f s saved)", entry.origin, entry.seconds)
    run = replace(run, origin=entry.origin, outputs=outputs, seconds=entry.seconds)
    opened = stack.lineage.start(run, suspended)
    run_hooks.on_opened(opened)
    run_hooks.on_reused(entry.page)
    previews = _begin_previews(run, step, stack) if opened.run_id else None
    run = _finish_run(stack, replace(run, state=StepState.FINISHED, ended=stack.clock()), opened, step)
    if previews is not None:
        previews.attach(run, opened)
    return run


def _begin_previews(
    run: StepRun, step: Step, stack: Stack, result: StepResult | None = None
) -> BackgroundPreviews | None:
    """Begin to make or find previews; never raise. A runtime that has no values here has stored their previews."""
    from airflow_zen.steps.materialize import BackgroundPreviews

    with log_errors(f"The outputs of {run.id} have no previews"):
        if result is None or not result.values:
            return BackgroundPreviews(step, stack, run.outputs)
        return BackgroundPreviews(step, stack, run.outputs, result.values, result.saved)
    return None


def _store_in_cache(key: CacheKey, run: StepRun, stack: Stack, opened: OpenedRun) -> bool:
    """Store the result for reuse, and its key for the explanation of the next miss; False when it cannot be reused."""
    origin, size = str(run.id), sum(ref.size for ref in run.outputs.values())
    with log_errors("The result could not be remembered for reuse"):
        page = opened.url or run.log_url
        stack.cache.put(CacheEntry(key.key, run.outputs, origin, run.seconds, stack.clock(), key.ingredients, page))
        with log_errors("A later miss will not be explained by this result"):
            result = KeyRecord(key.key, origin, key.ingredients, key.sources, run.seconds, size)
            stack.cache.history.add(run.id.dag_id, run.id.task_id, result)
        return True
    return False


def _finish_run(stack: Stack, run: StepRun, opened: OpenedRun, step: Step | None = None) -> StepRun:
    """Send the run to the lineage server and write its record, both without secrets; neither changes the outcome.

    A record that cannot be written is kept on this host until a later step or delivery on it writes it. Meanwhile the
    outputs of a successful step become versions of their names.
    """
    run, delivered = stack.redactor.step_run(run), False
    with ThreadPoolExecutor(1) as pool:
        naming = pool.submit(_publish_versions, step, stack, run) if step and run.outputs else None
        with log_errors(f"The lineage of {run.id} is sent later"):
            delivered = stack.lineage.finish(run, opened)
        run = replace(run, versions=naming.result()) if naming else run
    with log_errors(f"The step run record of {run.id} could not be written"):
        stack.records.put(run, delivered)
        with log_errors(f"A copy of the record of {run.id} is left on this host"):
            stack.lineage.on_record_stored(run)
    return run


def _publish_versions(step: Step, stack: Stack, run: StepRun) -> Mapping[str, RecordedVersion]:
    """Make each output the newest version of its name, if its content is not already; never raise.

    This includes a reused result, if something else was computed in between. The facts that user code logged about an
    output are the metadata of a version that it makes. Elements of a list marked `Each` have no
    versions: the element at one position is a different thing the next time.
    """

    def publish(output: str, ref: ArtifactRef) -> RecordedVersion | None:
        # One history for all instances of a mapped step would have a new version from each of them in every run.
        name = ref.name if run.id.map_index < 0 else f"{ref.name}[{run.id.map_index}]"
        dag_run = f"{run.id.dag_id}/{run.id.run_id}"
        with log_errors(f"Artifact {name!r} has no new version, though its content is stored"):
            now, facts = run.ended or stack.clock(), run.metadata.get(f"output:{output}")
            return stack.names.add(name, ref, now, origin=str(run.id), dag_run=dag_run, metadata=facts)
        return None

    if step.outputs.each:
        return {}
    with ThreadPoolExecutor(min(8, len(run.outputs))) as pool:
        made = zip(run.outputs, pool.map(publish, run.outputs, run.outputs.values()), strict=True)
        return {output: version for output, version in made if version}


def _failed_run(run: StepRun, stack: Stack, error: BaseException, run_hooks: RunHooks) -> StepRun:
    state = run_hooks.final_state(error)
    return replace(run, state=state, ended=stack.clock(), error=f"{type(error).__name__}: {error}")
