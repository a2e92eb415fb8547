"""Execution of a step's function in this process: the task's process, or the far side of a runtime."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import StepInterrupted, log_errors
from airflow_zen.lineage.recorder import collect_metadata, temporary_environment
from airflow_zen.steps.outputs import CHECKS_SUFFIX

if TYPE_CHECKING:
    from airflow_zen.stack import SavedArtifact
    from airflow_zen.steps.runtime import Execution
    from airflow_zen.steps.step import Step

    Result = tuple[Mapping[str, SavedArtifact], Mapping[str, Any], Mapping[str, Any], Mapping[str, str | None]]

log = logging.getLogger("airflow_zen.steps")


def execute(execution: Execution) -> Result:
    """Load the inputs while the lineage run opens, call the function inside it, and store its outputs.

    Return the stored outputs, descriptions of what the models among them take, the output values, and the newest
    versions of the outputs' names, each by name.

    The environment of the lineage run is active until everything is stored, because a returned iterator runs the
    function's code while it is stored.
    """
    from airflow_zen.steps.materialize import describe_model_inputs, save_outputs

    step, stack = execution.step, execution.stack
    with collect_metadata(execution.collector):
        values = execution.arguments.load(stack, step.parameter_types, execution.scratch)
        with temporary_environment(execution.opened().environment):
            result = _call(step, values, execution.run_hooks.take_event)
            saving: Callable[[], Mapping[str, SavedArtifact]] = partial(
                save_outputs, step, result, stack, execution.run
            )
            checked = list(filter(step.checks, result))
            if checked:
                from airflow_zen.steps.output_checks import check_and_save

                saving = partial(check_and_save, step, result, stack, execution)
            outputs = [*result, *(f"{output}{CHECKS_SUFFIX}" for output in checked)]
            newest, lookups = stack.names.lookups(step.version_names(execution.run.id, outputs))
            saved, *_ = stack.store.transport.together(saving, *lookups)
            inputs: Mapping[str, Any] = {}
            with log_errors("The models of this step have no signature in MLflow"):
                arguments = (*values.args, *values.kwargs.values())
                inputs = describe_model_inputs(step, result, saved, arguments, stack)
    return saved, inputs, result, newest


@contextmanager
def raise_on_sigterm(on_kill: Callable[[], object] = bool) -> Iterator[None]:
    """Raise `StepInterrupted` inside the block when this process receives SIGTERM, after `on_kill`.

    Airflow sends SIGKILL 5 seconds after SIGTERM. Until then `finally` blocks run, and the step run is closed as
    killed. A second SIGTERM is ignored.
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


def _call(step: Step, values: inspect.BoundArguments, take_event: Callable[[Any], bool]) -> dict[str, Any]:
    """Call the function and return its outputs by name, as their declared types."""
    from airflow_zen.steps.conformance import unpack_result

    result = step.function(*values.args, **values.kwargs)
    if inspect.iscoroutine(result):
        result = _await_result(result)
    if inspect.isgenerator(result):
        result = _take_events(result, take_event, is_stream=step.is_stream)
    if not step.outputs.names and result is not None:
        log.warning("Step %r is declared '-> None'; the %s it returned is dropped.", step.name, type(result).__name__)
    return {} if step.returns_nothing(result) else unpack_result(result, step.outputs, step.output_types, step.name)


def _await_result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await in this thread; in a new thread if this one runs an event loop, as in Jupyter."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, coroutine).result()


def _take_events(made: Generator[Any, Any, Any], take: Callable[[Any], bool], *, is_stream: bool) -> Any:
    """Return the result of a generator after its asset events, or an iterator of the batches that it yields.

    `take` processes an event and returns True, or returns False for a batch. With `is_stream` the function is declared
    to yield batches, and none is made before it is requested.
    """
    batches = (item for item in made if not take(item))
    if is_stream:
        return batches
    try:
        while take(first := next(made)):
            pass
    except StopIteration as end:
        return end.value
    return _with_first(first, batches)


def _with_first(first: Any, batches: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from batches
