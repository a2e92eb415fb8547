"""`run_step`: the execution of one step, from the look-up in the cache to the record of the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_zen.caching.step_cache import CacheEntry, KeyRecord
from airflow_zen.errors import StepDeferred, StepInterrupted, TrialPruned, ZenError, log_errors
from airflow_zen.lineage.recorder import MetadataCollector
from airflow_zen.runs.step_run import CacheState, StepRun, StepState, SuspendedRun
from airflow_zen.steps.arguments import Arguments, describe_as_json
from airflow_zen.steps.cache_key import StepPlan, cache_key, plan_step
from airflow_zen.steps.output_checks import FailedReport, failed_error, judge_reports, next_versions
from airflow_zen.steps.runtime import Execution, StepResult

if TYPE_CHECKING:
    from airflow_zen.artifacts.leases import Lease
    from airflow_zen.artifacts.named_artifacts import NextVersion
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.stack import Stack
    from airflow_zen.steps.materialize import BackgroundPreviews
    from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.steps")

# A step whose latest result took less ends before a user finds it.
_BRIEF_SECONDS = 1.0
_ENDED_BY_USER = "StepInterrupted: the task was cleared or marked by a user while it was deferred"


class RunHooks:
    """What the caller of `run_step` does while the step runs.

    can_defer: whether it handles `StepDeferred`; the step's code may run until `deadline`, in seconds since the epoch.
    event: what the trigger of an earlier process said, which goes on here. finished: the result of an earlier try of the
    task, which is taken over.
    """

    can_defer = False
    deadline: float | None = None
    event: Mapping[str, Any] | None = None
    finished: CacheEntry | None = None

    def check_inputs(self, inputs: Mapping[str, ArtifactRef]) -> None:
        """Check the inputs before anything else; an exception fails the run."""

    def on_opened(self, opened: OpenedRun, *, is_brief: bool = False) -> None:
        """Handle the start of the lineage run; a brief one ends soon, or has ended as that of a reused result."""

    def on_reused(self, origin: str, page: str) -> None:
        """Handle the reuse of the result of a step run, while the run is sent to the lineage server.

        `page` shows the step run that computed it, and is empty where none does.
        """

    def take_event(self, item: Any) -> bool:
        """Handle what the function yields as the description of an event; return whether it is one."""
        return False

    def on_failed_checks(self, failed: Sequence[FailedReport]) -> None:
        """Handle the failed reports of a run that goes on all the same."""

    def final_state(self, error: BaseException) -> StepState:
        """Return the state of a run that raised `error`."""
        return StepState.KILLED if isinstance(error, StepInterrupted | KeyboardInterrupt) else StepState.FAILED


def run_step(
    step: Step, arguments: Arguments, stack: Stack, run: StepRun, run_hooks: RunHooks | None = None
) -> StepRun:
    """Execute a step, or reuse the result of equal work; return the finished record.

    `run` identifies the execution, and may have inputs beside the arguments. An exception of the function is raised
    again after the run is closed as failed, or as killed for an interrupt.
    """
    run_hooks = run_hooks or RunHooks()
    stack = step.extend_stack(stack)
    before = stack.records.get_suspended(run.id) if run_hooks.event is not None else None
    if run_hooks.can_defer and run.id.try_number > 1 and before is None:
        end_suspended_runs(stack, run.id)
    suspended = before.lineage if before else {}
    started = before.run.started if before else stack.clock()
    run = replace(run, started=started, inputs={**run.inputs, **arguments.inputs})
    run = replace(run, parameters=arguments.parameters(), selected=arguments.selected)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(stack.lineage.start, run, suspended, is_planned=False)
        try:
            run_hooks.check_inputs(run.inputs)
            holder = before.lease.holder if before and before.lease else ""
            plan = _take_over(run_hooks) or plan_step(
                step, arguments, stack, run, acquire_lease=True, suspended_holder=holder
            )
        except BaseException as error:
            _finish_run(stack, _failed_run(run, stack, error, run_hooks), _planned(starting, stack, run))
            raise
        run = _apply_plan(plan, run, step)
        if plan.entry:
            return _reuse_entry(step, plan, stack, run, run_hooks, pool, starting)
        return _compute(step, arguments, plan, stack, run, run_hooks, pool.submit(_planned, starting, stack, run))


def _take_over(run_hooks: RunHooks) -> StepPlan | None:
    if run_hooks.finished is None:
        return None
    reason = "an earlier try of the task has computed it"
    return StepPlan(CacheState.HIT, reason, entry=run_hooks.finished, newest=None)


def _planned(starting: Future[OpenedRun], stack: Stack, run: StepRun) -> OpenedRun:
    """Return the lineage run when it is open, and let what is known before the function is called be sent."""
    opened = starting.result()
    stack.lineage.prepare(run)
    return opened


def _compute(
    step: Step,
    arguments: Arguments,
    plan: StepPlan,
    stack: Stack,
    run: StepRun,
    run_hooks: RunHooks,
    opening: Future[OpenedRun],
) -> StepRun:
    """Call the function while the plan's lease is held, and store its outputs."""
    collector = MetadataCollector(frozenset(run.inputs), frozenset(step.outputs.names), step.trial)
    with plan.lease, stack.scratch_directory() as scratch:
        find_key = partial(_checkpoint_key, step, arguments, stack, run)
        execution = Execution(
            step, arguments, stack, run, opening, run_hooks, collector, scratch, _is_brief(plan), find_key
        )
        execution.meter.start()
        try:
            result = step.runtime.execute(execution)
            run = replace(
                run,
                seconds=stack.clock() - run.started,
                model_inputs=result.model_inputs,
                metadata=describe_as_json(collector.facts),
                resources=execution.meter.stop(),
            )
        except StepDeferred:
            execution.meter.stop()
            _suspend(stack, run, opening.result(), plan.lease)
            raise
        except TrialPruned as pruned:
            log.info("This trial is pruned at %s", pruned)
            result = StepResult({}, has_checkpoints=True)
            seconds = stack.clock() - run.started
            run = replace(
                run, seconds=seconds, metadata=describe_as_json(collector.facts), resources=execution.meter.stop()
            )
        except BaseException as error:
            run = replace(run, metadata=describe_as_json(collector.facts), resources=execution.meter.stop())
            _finish_run(stack, _failed_run(run, stack, error, run_hooks), opening.result())
            raise
        run = replace(
            run,
            state=StepState.FINISHED,
            ended=stack.clock(),
            outputs={name: artifact.ref for name, artifact in result.saved.items()},
            summaries={artifact.ref.digest: artifact.summary for artifact in result.saved.values()},
        )
        run = _with_trial_metrics(run, step, stack, opening.result())
        run, failed = judge_reports(step, stack, run)
        versions = next_versions(step, stack, run, result.newest, failed)
        previews = _begin_previews(run, step, stack, result, versions)
        storing = _store_in_cache(plan, run, step, stack, opening.result())
        run = _finish_run(stack, run, opening.result(), versions, storing)
        if previews is not None:
            previews.attach(run, opening.result())
        if result.has_checkpoints and run.state is StepState.FINISHED:
            from airflow_zen.steps.checkpoint import delete_checkpoints

            with log_errors(f"The checkpoints of {run.id} are left to a prune"):
                delete_checkpoints(stack, run.id)
        return _apply_failures(run, failed, run_hooks)


def _with_trial_metrics(
    run: StepRun,
    step: Step,
    stack: Stack,
    opened: OpenedRun | None = None,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
) -> StepRun:
    """Return the run of a trial with its metrics, any other as it is; `metadata` are those of a reused trial."""
    if not step.trial:
        return run
    from airflow_zen.steps.trial import with_trial_metrics

    run = run if metadata is None else replace(run, metadata=metadata)
    return with_trial_metrics(run, step.trial, stack, opened)


def _checkpoint_key(step: Step, arguments: Arguments, stack: Stack, run: StepRun) -> str:
    """Return the cache key, also of a step that is not cached; the same text for all work that has none."""
    with suppress(ZenError):
        return run.cache_key or cache_key(step, arguments, stack, run.id.dag_id).key
    return "unkeyed"


def _is_brief(plan: StepPlan) -> bool:
    latest = plan.history[0].seconds if plan.history else None
    return latest is not None and latest < _BRIEF_SECONDS


def _apply_failures(run: StepRun, failed: Sequence[FailedReport], run_hooks: RunHooks) -> StepRun:
    """Raise `ValidationFailed` for a run that failed reports have failed; tell the hooks about other failed reports."""
    if run.state is StepState.FAILED:
        raise failed_error(run, failed)
    if failed:
        run_hooks.on_failed_checks(failed)
    return run


def _suspend(stack: Stack, run: StepRun, opened: OpenedRun, lease: Lease) -> None:
    """Leave the run to a later process, and store what that needs."""
    stack.records.put_suspended(SuspendedRun(run, stack.lineage.suspend(run, opened), lease.suspend()))


def end_suspended_runs(stack: Stack, instance: StepRunId) -> None:
    """End what is suspended of a task instance as killed, with its lease: its task was cleared or marked by a user."""
    with log_errors(f"Suspended runs of {instance.task_instance} are not ended"):
        for suspended in stack.records.suspended(instance):
            if suspended.lease:
                suspended.lease.abandon(stack.store.transport)
            run = replace(suspended.run, state=StepState.KILLED, ended=stack.clock(), error=_ENDED_BY_USER)
            if not stack.records.exists(run.id):
                _finish_run(stack, run, stack.lineage.start(run, suspended.lineage))
            stack.records.delete_suspended(run.id)


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
    step: Step,
    plan: StepPlan,
    stack: Stack,
    run: StepRun,
    run_hooks: RunHooks,
    pool: Executor,
    starting: Future[OpenedRun],
) -> StepRun:
    """Record the run as a hit, with the refs of the plan's entry as its outputs."""
    entry: Any = plan.entry
    outputs = {
        name: stack.store.relocate(ref).reused_from(entry.origin).with_name(step.artifact_name(run.id, name))
        for name, ref in entry.outputs.items()
    }
    log.info("cached: reusing the result of %s (%.1f s saved)", entry.origin, entry.seconds)
    run = replace(run, origin=entry.origin, outputs=outputs, seconds=entry.seconds)
    run = _with_trial_metrics(run, step, stack, metadata=entry.metadata)
    recording = pool.submit(_record_reuse, step, plan, stack, run, starting)
    run_hooks.on_reused(entry.origin, entry.page)
    run, opened, failed = recording.result()
    run_hooks.on_opened(opened, is_brief=True)
    return _apply_failures(run, failed, run_hooks)


def _record_reuse(
    step: Step, plan: StepPlan, stack: Stack, run: StepRun, starting: Future[OpenedRun]
) -> tuple[StepRun, OpenedRun, Sequence[FailedReport]]:
    """Close the lineage run of a hit, and write its record."""
    opened = _planned(starting, stack, run)
    # A value that is one JSON object has no preview.
    has_previews = opened.run_id and not all(ref.inline for ref in run.outputs.values())
    previews = _begin_previews(run, step, stack) if has_previews else None
    run, failed = judge_reports(step, stack, replace(run, state=StepState.FINISHED, ended=stack.clock()))
    run = _finish_run(stack, run, opened, next_versions(step, stack, run, plan.newest, failed))
    if previews is not None:
        previews.attach(run, opened)
    return run, opened, failed


def _begin_previews(
    run: StepRun,
    step: Step,
    stack: Stack,
    result: StepResult | None = None,
    versions: Mapping[str, NextVersion] = MappingProxyType({}),
) -> BackgroundPreviews | None:
    """Begin to make or find previews; never raise. A runtime that has no values here has stored their previews."""
    from airflow_zen.steps.materialize import BackgroundPreviews

    with log_errors(f"The outputs of {run.id} have no previews"):
        if result is None or not result.values:
            return BackgroundPreviews(step, stack, run.outputs)
        new = {output for output, version in versions.items() if version.version}
        return BackgroundPreviews(step, stack, run.outputs, result.values, result.saved, new)
    return None


def _store_in_cache(
    plan: StepPlan, run: StepRun, step: Step, stack: Stack, opened: OpenedRun
) -> list[Callable[[], None]]:
    """Return what stores the result for reuse, and its key for the explanation of the next miss.

    A lease that is held for it becomes the entry.
    """
    key = plan.key
    if key is None or not (run.outputs or step.outputs.each or step.cache_always or run.is_pruned):
        return []
    if run.state is StepState.FAILED and not set(step.outputs.names) <= run.outputs.keys():
        return []
    origin, size = str(run.id), sum(ref.size for ref in run.outputs.values())
    page = opened.url or run.log_url
    entry = CacheEntry(key.key, run.outputs, origin, run.seconds, stack.clock(), key.ingredients, page, run.metadata)
    result = KeyRecord(key.key, origin, key.ingredients, key.sources, run.seconds, size)

    def put_entry() -> None:
        with log_errors("The result could not be remembered for reuse"):
            plan.lease.commit(partial(stack.cache.put, entry))

    def add_to_history() -> None:
        with log_errors("A later miss will not be explained by this result"):
            stack.cache.history.add(run.id.dag_id, run.id.task_id, result, plan.history)

    return [put_entry, add_to_history]


def _finish_run(
    stack: Stack,
    run: StepRun,
    opened: OpenedRun,
    versions: Mapping[str, NextVersion] = MappingProxyType({}),
    storing: Sequence[Callable[[], None]] = (),
) -> StepRun:
    """Send the run to the lineage server and write its record, both without secrets; neither changes the outcome.

    A record that cannot be written is kept on this host until a later step or delivery on it writes it. Meanwhile the
    outputs of a successful step become versions of their names, and what is to be stored with them is stored.
    """
    run = stack.redactor.step_run(run)
    run = replace(run, versions={output: version.recorded for output, version in versions.items()})
    changed = {output: version for output, version in versions.items() if version.version}
    publishing = [partial(_publish_version, stack, run.outputs[output].name, changed[output]) for output in changed]
    delivery = partial(_deliver_record, stack, run, opened)
    (delivered, is_stored), *published = stack.store.transport.together(delivery, *publishing, *storing)
    if failed := [output for output, is_published in zip(changed, published, strict=False) if not is_published]:
        run = replace(run, versions={output: run.versions[output] for output in versions if output not in failed})
        is_stored = _put_record(stack, run, delivered)
    if is_stored:
        with log_errors(f"A copy of the record of {run.id} is left on this host"):
            stack.lineage.on_record_stored(run)
    return run


def _deliver_record(stack: Stack, run: StepRun, opened: OpenedRun) -> tuple[bool, bool]:
    """Send the run to the lineage server, and write its record; return whether it was sent, and whether written."""
    delivered = False
    with log_errors(f"The lineage of {run.id} is sent later"):
        delivered = stack.lineage.finish(run, opened)
    return delivered, _put_record(stack, run, delivered)


def _put_record(stack: Stack, run: StepRun, delivered: bool) -> bool:
    with log_errors(f"The step run record of {run.id} could not be written"):
        stack.records.put(run, delivered)
        return True
    return False


def _publish_version(stack: Stack, name: str, version: NextVersion) -> bool:
    with log_errors(f"Artifact {name!r} has no new version, though its content is stored"):
        stack.names.write(version)
        return True
    return False


def _failed_run(run: StepRun, stack: Stack, error: BaseException, run_hooks: RunHooks) -> StepRun:
    state = run_hooks.final_state(error)
    return replace(run, state=state, ended=stack.clock(), error=f"{type(error).__name__}: {error}")
