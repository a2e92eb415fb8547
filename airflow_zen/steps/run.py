"""The whole story of one execution: look up, load, call, save, remember, record, show."""

from __future__ import annotations

import asyncio
import inspect
import logging
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_zen.artifacts.leases import Lease, NullLease, TaskAttempt
from airflow_zen.caching.key_history import KeyRecord, explain_miss
from airflow_zen.caching.step_cache import CacheEntry
from airflow_zen.errors import FingerprintError, StepInterrupted
from airflow_zen.lineage.metadata import MetadataCollector, collect_metadata
from airflow_zen.lineage.recorder import OpenedRun, temporary_environment
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.steps.arguments import Arguments, describe_as_json
from airflow_zen.steps.cache_key import CacheKey, cache_key
from airflow_zen.steps.materialize import artifact_name, publish_versions, save_outputs
from airflow_zen.steps.outputs import unpack_result
from airflow_zen.steps.previews import BackgroundPreviews

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.caching.policy import Cache
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.steps")


class RunHooks:
    """Hear of a step run's page as soon as it is open, and judge how it ended; carriers have words of their own."""

    def check_inputs(self, inputs: Mapping[str, ArtifactRef]) -> None:
        """Look at the inputs before anything is done; what is raised fails the run, with its reason."""

    def on_opened(self, opened: OpenedRun) -> None:
        """Be told where the run is shown."""

    def final_state(self, error: BaseException) -> StepState:
        """Say how a run ended that raised `error`."""
        return StepState.KILLED if isinstance(error, StepInterrupted | KeyboardInterrupt) else StepState.FAILED


def run_step(
    step: Step, arguments: Arguments, stack: Stack, run: StepRun, run_hooks: RunHooks | None = None
) -> StepRun:
    """Execute a step, or reuse what equal work gave before; return its finished record.

    `run` names the execution and who asked for it. Whatever the function raises is raised again after
    the run is closed as failed, or as killed for an interrupt.
    """
    run_hooks = run_hooks or RunHooks()
    stack = step.extend_stack(stack)
    run = replace(run, started=stack.clock(), inputs=arguments.inputs, parameters=arguments.parameters())
    try:
        run_hooks.check_inputs(run.inputs)
        key, entry, lease, run = _look_up_cache(step, arguments, stack, run)
    except BaseException as error:
        _finish_run(stack, _failed_run(run, stack, error, run_hooks), stack.lineage.start(run))
        raise
    if entry:
        return _reuse_entry(step, entry, stack, run, run_hooks)
    collector = MetadataCollector(frozenset(run.inputs), frozenset(step.outputs.names))
    with lease, ThreadPoolExecutor(1) as pool, _scratch_directory(stack) as scratch:
        opening = pool.submit(stack.lineage.start, run)
        try:
            with (
                collect_metadata(collector),
                _call_function(step, arguments, stack, opening, run_hooks, scratch) as result,
            ):
                saved = save_outputs(step, result, stack, run)
            run = replace(run, seconds=stack.clock() - run.started, metadata=describe_as_json(collector.facts))
        except BaseException as error:
            run = replace(run, metadata=describe_as_json(collector.facts))
            _finish_run(stack, _failed_run(run, stack, error, run_hooks), opening.result())
            raise
        run = replace(
            run,
            state=StepState.FINISHED,
            ended=stack.clock(),
            outputs={name: artifact.ref for name, artifact in saved.items()},
            summaries={artifact.ref.digest: artifact.summary for artifact in saved.values()},
        )
        if (
            not key
            or not (run.outputs or step.outputs.each or step.cache_always)
            or not _store_in_cache(key, run, stack)
        ):
            lease.mark_without_result()
        previews = BackgroundPreviews(step, result, saved, stack)
        run = _finish_run(stack, run, opening.result(), step)
        previews.attach(run, opening.result())
        return run


def _look_up_cache(
    step: Step, arguments: Arguments, stack: Stack, run: StepRun
) -> tuple[CacheKey | None, CacheEntry | None, Lease, StepRun]:
    """Find equal work, or take the turn to do it; a cache that cannot be asked costs the reuse, not the step."""
    recompute = run.cache is CacheState.RECOMPUTE
    try:
        key, run = _compute_cache_key(step, arguments, stack, run)
        if key is None or recompute:
            return key, None, NullLease(), run
        entry, why = find_valid_entry(key, step.cache, stack)
        if entry:
            return key, entry, NullLease(), run
        entry, lease = stack.cache.leases.acquire_or_wait(
            key.key,
            lambda: find_valid_entry(key, step.cache, stack)[0],
            TaskAttempt(run.id.task_instance, run.id.try_number),
        )
        why = why if entry or why else miss_reason(key, stack, run.id)
    except Exception as error:
        log.warning("The cache could not be asked: %s", error, exc_info=not isinstance(error, OSError))
        return None, None, NullLease(), _without_cache(run, f"the cache could not be asked: {error}")
    if entry is None:
        log.info("not cached yet: %s", why)
        run = replace(run, why=why)
    return key, entry, lease, run


def _compute_cache_key(step: Step, arguments: Arguments, stack: Stack, run: StepRun) -> tuple[CacheKey | None, StepRun]:
    """Make the cache key, or say in the record why there is none."""
    if run.cache is CacheState.OFF:
        log.info("Not cached: %s", run.why)
        return None, run
    if why := uncacheable_reason(step):
        return None, _without_cache(run, why)
    try:
        key = cache_key(step, arguments, stack, run.id.dag_id)
    except FingerprintError as error:
        return None, _without_cache(run, str(error))
    for warning in key.warnings:
        log.warning("%s Set cache=False on step %r if its result must be new each time.", warning, step.name)
    return key, replace(run, cache=CacheState.MISS, cache_key=key.key)


def _without_cache(run: StepRun, reason: str) -> StepRun:
    log.info("Not cached: %s", reason)
    return replace(run, cache=CacheState.OFF, why=reason)


def _reuse_entry(step: Step, entry: CacheEntry, stack: Stack, run: StepRun, run_hooks: RunHooks) -> StepRun:
    """Give the remembered refs, and record the run as a hit."""
    outputs = {
        name: stack.store.relocate(ref).reused_from(entry.origin).with_name(artifact_name(step, run, name))
        for name, ref in entry.outputs.items()
    }
    log.info("cached: reusing the result of %s (%.1f s saved)", entry.origin, entry.seconds)
    run = replace(run, cache=CacheState.HIT, origin=entry.origin, outputs=outputs, seconds=entry.seconds)
    opened = stack.lineage.start(run)
    run_hooks.on_opened(opened)
    run = replace(run, state=StepState.FINISHED, ended=stack.clock())
    return _finish_run(stack, run, opened, step)


@contextmanager
def _call_function(
    step: Step, arguments: Arguments, stack: Stack, opening: Future[OpenedRun], run_hooks: RunHooks, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Load the inputs while the lineage run opens, call the user's function inside it, and lend what it returns.

    The environment of the lineage run lasts as long as the block: a returned iterator runs the function's
    code while it is stored.
    """
    values = arguments.load(stack, step.parameter_types, scratch)
    opened = opening.result()
    run_hooks.on_opened(opened)
    with temporary_environment(opened.environment):
        result = step.function(*values.args, **values.kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        yield _collect_outputs(step, result)


def _collect_outputs(step: Step, result: Any) -> dict[str, Any]:
    if not step.outputs.names and result is not None:
        log.warning("Step %r is declared '-> None'; the %s it returned is dropped.", step.name, type(result).__name__)
    if step.returns_nothing(result):
        return {}
    return unpack_result(result, step.outputs, step.output_types, step.name)


def _store_in_cache(key: CacheKey, run: StepRun, stack: Stack) -> bool:
    """Let equal work find this result, and the next miss of this task say what is different; tell whether it can."""
    origin, size = str(run.id), sum(ref.size for ref in run.outputs.values())
    try:
        stack.cache.put(CacheEntry(key.key, run.outputs, origin, run.seconds, stack.clock(), key.ingredients))
    except Exception as error:  # noqa: BLE001 - a step that succeeded stays so, whatever the store says
        log.warning("The result could not be remembered for reuse: %s", error)
        return False
    try:
        result = KeyRecord(key.key, origin, key.ingredients, key.sources, run.seconds, size)
        stack.cache.history.add(run.id.dag_id, run.id.task_id, result)
    except Exception as error:  # noqa: BLE001 - only the next explanation depends on it
        log.warning("A later miss will not be explained by this result: %s", error)
    return True


def _finish_run(stack: Stack, run: StepRun, opened: OpenedRun, step: Step | None = None) -> StepRun:
    """Send the run to the lineage server and write its record; neither may change the step's own outcome.

    A record that cannot be written is held on this host, until a later step or delivery here puts it there.
    Meanwhile the outputs of a step that succeeded become versions of their names.
    """
    with ThreadPoolExecutor(1) as pool:
        naming = pool.submit(publish_versions, step, stack, run) if step and run.outputs else None
        delivered = stack.lineage.finish(run, opened)
        run = replace(run, versions=naming.result()) if naming else run
    try:
        stack.records.put(run, delivered)
    except Exception as error:  # noqa: BLE001 - a step keeps its outcome, whatever the store says
        log.warning("The step run record of %s could not be written: %s", run.id, error)
    else:
        stack.lineage.on_record_stored(run)
    return run


def _failed_run(run: StepRun, stack: Stack, error: BaseException, run_hooks: RunHooks) -> StepRun:
    return replace(
        run, state=run_hooks.final_state(error), ended=stack.clock(), error=f"{type(error).__name__}: {error}"
    )


@contextmanager
def _scratch_directory(stack: Stack) -> Iterator[Path]:
    directory = stack.store.temporary_directory()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def uncacheable_reason(step: Step) -> str:
    """Say why a step is run each time, whatever its arguments; empty where it is not."""
    if step.outputs.names or step.cache_always:
        return ""
    return "it returns nothing, so there is nothing to reuse"


def find_valid_entry(key: CacheKey, policy: Cache, stack: Stack) -> tuple[CacheEntry | None, str]:
    """Find an entry that is young enough and whose artifacts all still exist.

    Says why one that is known cannot serve; a key that was never seen gives no reason.
    """
    entry = stack.cache.get(key.key)
    if entry is None:
        return None, ""
    age = stack.clock() - entry.created
    if age > policy.ttl_seconds:
        return (
            None,
            f"the result of {entry.origin} is {_duration_text(age)} old, and is kept for {_duration_text(policy.ttl_seconds)}",
        )
    if gone := stack.store.missing(entry.outputs.values()):
        return None, f"the result of {entry.origin} is known, but its artifact {gone[0].digest[:12]} is gone"
    return entry, ""


def miss_reason(key: CacheKey, stack: Stack, run: StepRunId) -> str:
    """Say what differs from the closest of the task's earlier results; one request."""
    try:
        history = stack.cache.history.recent_records(run.dag_id, run.task_id)
    except Exception as error:  # noqa: BLE001 - a remark is never worth a step
        return f"what was computed before cannot be read: {error}"
    return explain_miss(key.ingredients, key.sources, history)


def _duration_text(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
