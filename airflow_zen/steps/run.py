"""The whole story of one execution: look up, load, call, save, remember, record, show."""

from __future__ import annotations

import asyncio
import inspect
import logging
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.caching.cache import CacheEntry
from airflow_zen.caching.flight import Attempt, Flight, NoFlight
from airflow_zen.caching.history import Remembered
from airflow_zen.environment import added_environment
from airflow_zen.errors import FingerprintError, StepInterrupted
from airflow_zen.lineage.metadata import Notebook, noting
from airflow_zen.lineage.recorder import Opened
from airflow_zen.lineage.step_run import StepRun, StepState
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments, as_json
from airflow_zen.steps.key import CacheKey, cache_key
from airflow_zen.steps.naming import name_outputs
from airflow_zen.steps.outputs import take
from airflow_zen.steps.previews import Previews
from airflow_zen.steps.reuse import never_reused, reusable, what_is_new
from airflow_zen.steps.saving import artifact_name, save_outputs
from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.steps")


class Watcher:
    """Hear of a step run's page as soon as it is open, and judge how it ended; carriers have words of their own."""

    def admit(self, inputs: Mapping[str, ArtifactRef]) -> None:
        """Look at the inputs before anything is done; what is raised fails the run, with its reason."""

    def opened(self, opened: Opened) -> None:
        """Be told where the run is shown."""

    def state_of(self, error: BaseException) -> StepState:
        """Say how a run ended that raised `error`."""
        return StepState.KILLED if isinstance(error, StepInterrupted | KeyboardInterrupt) else StepState.FAILED


def run_step(step: Step, arguments: Arguments, stack: Stack, run: StepRun, watcher: Watcher | None = None) -> StepRun:
    """Execute a step, or reuse what equal work gave before; return its finished record.

    `run` names the execution and who asked for it. Whatever the function raises is raised again after
    the run is closed as failed, or as killed for an interrupt.
    """
    watcher = watcher or Watcher()
    stack = step.reader(stack)
    run = replace(run, started=stack.clock(), inputs=arguments.inputs, parameters=arguments.parameters())
    try:
        watcher.admit(run.inputs)
        key, entry, flight, run = _look_up(step, arguments, stack, run)
    except BaseException as error:
        _close(stack, _ended(run, stack, error, watcher), stack.lineage.start(run))
        raise
    if entry:
        return _reuse(step, entry, stack, run, watcher)
    notebook = Notebook(frozenset(run.inputs), frozenset(step.outputs.names))
    with flight, ThreadPoolExecutor(1) as pool, _scratch(stack) as scratch:
        opening = pool.submit(stack.lineage.start, run)
        try:
            with noting(notebook), _called(step, arguments, stack, opening, watcher, scratch) as result:
                saved = save_outputs(step, result, stack, run)
            run = replace(run, seconds=stack.clock() - run.started, metadata=as_json(notebook.facts))
        except BaseException as error:
            run = replace(run, metadata=as_json(notebook.facts))
            _close(stack, _ended(run, stack, error, watcher), opening.result())
            raise
        run = replace(
            run,
            state=StepState.FINISHED,
            ended=stack.clock(),
            outputs={name: artifact.ref for name, artifact in saved.items()},
            summaries={artifact.ref.digest: artifact.summary for artifact in saved.values()},
        )
        if not key or not (run.outputs or step.outputs.each or step.cache_always) or not _remember(key, run, stack):
            flight.abandon()
        previews = Previews(step, result, saved, stack)
        run = _close(stack, run, opening.result(), step)
        previews.attach(run, opening.result())
        return run


def _look_up(
    step: Step, arguments: Arguments, stack: Stack, run: StepRun
) -> tuple[CacheKey | None, CacheEntry | None, Flight, StepRun]:
    """Find equal work, or take the turn to do it; a cache that cannot be asked costs the reuse, not the step."""
    anew = run.cache == "recompute"
    try:
        key, run = _key(step, arguments, stack, run)
        if key is None or anew:
            return key, None, NoFlight(), run
        entry, why = reusable(key, step.cache, stack)
        if entry:
            return key, entry, NoFlight(), run
        entry, flight = stack.cache.flights.turn(
            key.key, lambda: reusable(key, step.cache, stack)[0], Attempt(run.id.task_instance, run.id.try_number)
        )
        why = why if entry or why else what_is_new(key, stack, run.id)
    except Exception as error:
        log.warning("The cache could not be asked: %s", error, exc_info=not isinstance(error, OSError))
        return None, None, NoFlight(), _uncached(run, f"the cache could not be asked: {error}")
    if entry is None:
        log.info("not cached yet: %s", why)
        run = replace(run, why=why)
    return key, entry, flight, run


def _key(step: Step, arguments: Arguments, stack: Stack, run: StepRun) -> tuple[CacheKey | None, StepRun]:
    """Make the cache key, or say in the record why there is none."""
    if run.cache == "off":
        log.info("Not cached: %s", run.why)
        return None, run
    if why := never_reused(step):
        return None, _uncached(run, why)
    try:
        key = cache_key(step, arguments, stack, run.id.dag_id)
    except FingerprintError as error:
        return None, _uncached(run, str(error))
    for warning in key.warnings:
        log.warning("%s Set cache=False on step %r if its result must be new each time.", warning, step.name)
    return key, replace(run, cache="miss", cache_key=key.key)


def _uncached(run: StepRun, reason: str) -> StepRun:
    log.info("Not cached: %s", reason)
    return replace(run, cache="off", why=reason)


def _reuse(step: Step, entry: CacheEntry, stack: Stack, run: StepRun, watcher: Watcher) -> StepRun:
    """Give the remembered refs, and record the run as a hit."""
    outputs = {
        name: stack.store.relocate(ref).reused_from(entry.origin).named(artifact_name(step, run, name))
        for name, ref in entry.outputs.items()
    }
    log.info("cached: reusing the result of %s (%.1f s saved)", entry.origin, entry.seconds)
    run = replace(run, cache="hit", origin=entry.origin, outputs=outputs, seconds=entry.seconds)
    opened = stack.lineage.start(run)
    watcher.opened(opened)
    run = replace(run, state=StepState.FINISHED, ended=stack.clock())
    return _close(stack, run, opened, step)


@contextmanager
def _called(
    step: Step, arguments: Arguments, stack: Stack, opening: Future[Opened], watcher: Watcher, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Load the inputs while the lineage run opens, call the user's function inside it, and lend what it returns.

    The environment of the lineage run lasts as long as the block: a returned iterator runs the function's
    code while it is stored.
    """
    values = arguments.load(stack, step.parameter_types, scratch)
    opened = opening.result()
    watcher.opened(opened)
    with added_environment(opened.environment):
        result = step.function(*values.args, **values.kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        yield _taken(step, result)


def _taken(step: Step, result: Any) -> dict[str, Any]:
    if not step.outputs.names and result is not None:
        log.warning("Step %r is declared '-> None'; the %s it returned is dropped.", step.name, type(result).__name__)
    if step.returns_nothing(result):
        return {}
    return take(result, step.outputs, step.output_types, step.name)


def _remember(key: CacheKey, run: StepRun, stack: Stack) -> bool:
    """Let equal work find this result, and the next miss of this task say what is different; tell whether it can."""
    origin, size = str(run.id), sum(ref.size for ref in run.outputs.values())
    try:
        stack.cache.put(CacheEntry(key.key, run.outputs, origin, run.seconds, stack.clock(), key.ingredients))
    except Exception as error:  # noqa: BLE001 - a step that succeeded stays so, whatever the store says
        log.warning("The result could not be remembered for reuse: %s", error)
        return False
    try:
        result = Remembered(key.key, origin, key.ingredients, key.sources, run.seconds, size)
        stack.cache.history.add(run.id.dag_id, run.id.task_id, result)
    except Exception as error:  # noqa: BLE001 - only the next explanation depends on it
        log.warning("A later miss will not be explained by this result: %s", error)
    return True


def _close(stack: Stack, run: StepRun, opened: Opened, step: Step | None = None) -> StepRun:
    """Send the run to the lineage server and write its record; neither may change the step's own outcome.

    A record that cannot be written is held on this host, until a later step or delivery here puts it there.
    Meanwhile the outputs of a step that succeeded become versions of their names.
    """
    with ThreadPoolExecutor(1) as pool:
        naming = pool.submit(name_outputs, step, stack, run) if step and run.outputs else None
        delivered = stack.lineage.finish(run, opened)
        run = replace(run, versions=naming.result()) if naming else run
    try:
        stack.records.put(run, delivered)
    except Exception as error:  # noqa: BLE001 - a step keeps its outcome, whatever the store says
        log.warning("The step run record of %s could not be written: %s", run.id, error)
    else:
        stack.lineage.stored(run)
    return run


def _ended(run: StepRun, stack: Stack, error: BaseException, watcher: Watcher) -> StepRun:
    return replace(run, state=watcher.state_of(error), ended=stack.clock(), error=f"{type(error).__name__}: {error}")


@contextmanager
def _scratch(stack: Stack) -> Iterator[Path]:
    directory = stack.store.lend()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
