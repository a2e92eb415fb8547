"""The interface of runtimes, with the records that they receive and return, and the runtime `InProcess`."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import StepInterrupted, log_errors
from airflow_zen.steps.outputs import CHECKS_SUFFIX

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from airflow_zen.lineage.recorder import MetadataCollector, OpenedRun
    from airflow_zen.runs.step_run import StepRun, StepRunId
    from airflow_zen.stack import SavedArtifact, Stack
    from airflow_zen.steps.arguments import Arguments
    from airflow_zen.steps.resources import ResourceMeter
    from airflow_zen.steps.run import RunHooks
    from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.steps")


def _new_meter() -> ResourceMeter:
    from airflow_zen.steps.resources import ResourceMeter

    return ResourceMeter()


class Execution(msgspec.Struct, frozen=True):
    """One call of a step's function, after a cache miss.

    `opening` is the lineage run, which opens while the inputs are loaded. `collector` receives what `log_metadata`
    logs, also from a function that fails. `scratch` is an empty directory that exists until the step has ended.
    `is_brief`: whether the task's latest result took less than a second. `find_key` returns the key of its checkpoints: the
    cache key, also of a step that is not cached. `meter` measures what the call uses.
    """

    step: Step
    arguments: Arguments
    stack: Stack
    run: StepRun
    opening: Future[OpenedRun]
    run_hooks: RunHooks
    collector: MetadataCollector
    scratch: Path
    is_brief: bool = False
    find_key: Callable[[], str] = str
    meter: ResourceMeter = msgspec.field(default_factory=_new_meter)

    def opened(self) -> OpenedRun:
        """Wait for the lineage run, and call the hooks; once per execution."""
        opened = self.opening.result()
        self.run_hooks.on_opened(opened, is_brief=self.is_brief)
        return opened


class CheckpointPlace:
    """Where a step stores its checkpoints; `is_used`: whether its code has asked for them."""

    def __init__(self, stack: Stack, run: StepRunId, find_key: Callable[[], str]) -> None:
        self.stack, self.run, self.find_key = stack, run, find_key
        self.is_used = False


_current: ContextVar[CheckpointPlace | None] = ContextVar("airflow_zen_checkpoints", default=None)
# Threads of a step have contexts of their own.
_active: list[CheckpointPlace] = []


@contextmanager
def use_checkpoints(place: CheckpointPlace) -> Iterator[None]:
    """Let `checkpoint` use a place during the block, from threads of the step too."""
    token = _current.set(place)
    _active.append(place)
    try:
        yield
    finally:
        _active.remove(place)
        _current.reset(token)


def current_checkpoints() -> CheckpointPlace | None:
    """Return where the running step stores its checkpoints; None outside a step."""
    return _current.get() or (_active[-1] if _active else None)


class StepResult(msgspec.Struct, frozen=True):
    """The stored outputs of a function, by name, and descriptions of what the models among them take.

    `values` are the output values if they are in this process. `newest` are the newest versions of their names, if they
    were looked up while the outputs were stored. `has_checkpoints`: whether the function asked for its checkpoints.
    """

    saved: Mapping[str, SavedArtifact]
    model_inputs: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    values: Mapping[str, Any] = msgspec.field(default_factory=dict)
    newest: Mapping[str, str | None] | None = None
    has_checkpoints: bool = False


class RankOptions(msgspec.Struct, frozen=True):
    """How PyTorch's elastic launch runs a function in several processes; see `TorchElastic`."""

    nproc_per_node: int
    max_restarts: int
    backend: str | None


class Runtime:
    """Load the arguments of a step, call its function, and store its outputs, in this process or elsewhere.

    A runtime is a frozen record with a deterministic repr: Airflow serializes it with the DAG, and settings and the
    configuration of a DAG run name it by that text.
    """

    def ingredients(self, step: Step, stack: Stack) -> Mapping[str, str] | None:
        """Return what the environment adds to the cache key, by label: `python`, `distribution NAME`.

        It replaces those of this process. None if the function runs in this process. Raises `FingerprintError` with the
        reason if the environment cannot be told.
        """
        raise NotImplementedError

    @property
    def ranks(self) -> RankOptions | None:
        """Return how the far side runs the function in several processes; None for one."""
        return None

    @property
    def numerics(self) -> dict[str, str]:
        """Return what changes the numbers of a result, wherever it is computed, for the cache key by label."""
        return {"ranks": str(self.ranks.nproc_per_node)} if self.ranks else {}

    def discard(self, run: StepRunId, stack: Stack) -> None:
        """Stop what still runs for a task instance whose deferred step has a result or an error."""

    def execute(self, execution: Execution) -> StepResult:
        """Run the function; raise its exception, or one of the same name with its traceback.

        Raises `StepDeferred` if this process does not have to wait, and the hooks support deferral. If another
        `BaseException` interrupts the call in this process, such as `StepInterrupted`, the remote execution is stopped.
        """
        raise NotImplementedError


class ResourceHints(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """What a step needs, wherever it runs: `ResourceHints(memory="4Gi", cpus=2, gpus=1)`.

    A runtime with such options has these limits where it names none. `airflow zen plan` compares the step's last peak of
    memory with `memory`; a sequence has one amount for each try of the task.
    """

    memory: str | Sequence[str] = ()
    cpus: float = 0
    gpus: int = 0


class InProcess(Runtime, msgspec.Struct, frozen=True):
    """Run the function in the process of the task: `InProcess()`."""

    def ingredients(self, step: Step, stack: Stack) -> None:
        """Return None: the distributions of this process are in the key where the code reaches them."""

    def execute(self, execution: Execution) -> StepResult:
        """Load the inputs while the lineage run opens, call the function inside it, and store its outputs.

        The environment of the lineage run is active until everything is stored, because a returned iterator runs the
        function's code while it is stored.
        """
        from airflow_zen.lineage.recorder import collect_metadata, temporary_environment

        step, stack = execution.step, execution.stack
        place = CheckpointPlace(stack, execution.run.id, execution.find_key)
        with collect_metadata(execution.collector), use_checkpoints(place):
            values = execution.arguments.load(stack, step.parameter_types, execution.scratch)
            with temporary_environment(execution.opened().environment):
                result = _call(step, values, execution.run_hooks.take_event)
                saved, newest = _save(execution, result)
                inputs = _model_inputs(execution, values, result, saved)
                return StepResult(saved, inputs, result, newest, place.is_used)


IN_PROCESS = InProcess()


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


def call_function(step: Step, values: inspect.BoundArguments, take_event: Callable[[Any], bool]) -> Any:
    """Call the function, and return what it returns; of a generator what is left after its asset events."""
    result = step.function(*values.args, **values.kwargs)
    if inspect.iscoroutine(result):
        result = _await_result(result)
    if inspect.isgenerator(result):
        result = _take_events(result, take_event, is_stream=step.is_stream)
    return result


def _call(step: Step, values: inspect.BoundArguments, take_event: Callable[[Any], bool]) -> dict[str, Any]:
    """Call the function and return its outputs by name, as their declared types."""
    from airflow_zen.steps.conformance import unpack_result

    result = call_function(step, values, take_event)
    if not step.outputs.names and result is not None:
        log.warning("Step %r is declared '-> None'; the %s it returned is dropped.", step.name, type(result).__name__)
    return {} if step.returns_nothing(result) else unpack_result(result, step.outputs, step.output_types, step.name)


def _save(execution: Execution, result: dict[str, Any]) -> tuple[Mapping[str, SavedArtifact], Mapping[str, str | None]]:
    """Store the outputs, with the reports of their checks, and look up the newest versions of their names meanwhile."""
    from airflow_zen.steps.materialize import save_outputs

    step, stack = execution.step, execution.stack
    saving: Callable[[], Mapping[str, SavedArtifact]] = partial(save_outputs, step, result, stack, execution.run)
    checked = list(filter(step.checks, result))
    if checked:
        from airflow_zen.steps.output_checks import check_and_save

        saving = partial(check_and_save, step, result, stack, execution)
    outputs = [*result, *(f"{output}{CHECKS_SUFFIX}" for output in checked)]
    newest, lookups = stack.names.lookups(step.version_names(execution.run.id, outputs))
    saved, *_ = stack.store.transport.together(saving, *lookups)
    if stack.held is not None:
        # A validator of the user may have changed what it checked.
        stack.held.keep(result, {name: saved[name].ref for name in result if name not in checked})
    return saved, newest


def _model_inputs(
    execution: Execution, values: inspect.BoundArguments, result: Mapping[str, Any], saved: Mapping[str, SavedArtifact]
) -> Mapping[str, Any]:
    from airflow_zen.steps.materialize import describe_model_inputs

    with log_errors("The models of this step have no signature in MLflow"):
        arguments = (*values.args, *values.kwargs.values())
        return describe_model_inputs(execution.step, result, saved, arguments, execution.stack)
    return {}


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
