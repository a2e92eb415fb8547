"""The interface of runtimes, with the records that they receive and return, and the runtime `InProcess`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from airflow_zen.lineage.recorder import MetadataCollector, OpenedRun
    from airflow_zen.runs.step_run import StepRun, StepRunId
    from airflow_zen.stack import SavedArtifact, Stack
    from airflow_zen.steps.arguments import Arguments
    from airflow_zen.steps.run import RunHooks
    from airflow_zen.steps.step import Step


class Execution(msgspec.Struct, frozen=True):
    """One call of a step's function, after a cache miss.

    `opening` is the lineage run, which opens while the inputs are loaded. `collector` receives what `log_metadata`
    logs, also from a function that fails. `scratch` is an empty directory that exists until the step has ended.
    `is_brief`: whether the task's latest result took less than a second.
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

    def opened(self) -> OpenedRun:
        """Wait for the lineage run, and call the hooks; once per execution."""
        opened = self.opening.result()
        self.run_hooks.on_opened(opened, is_brief=self.is_brief)
        return opened


class StepResult(msgspec.Struct, frozen=True):
    """The stored outputs of a function, by name, and descriptions of what the models among them take.

    `values` are the output values if they are in this process. `newest` are the newest versions of their names, if they
    were looked up while the outputs were stored.
    """

    saved: Mapping[str, SavedArtifact]
    model_inputs: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    values: Mapping[str, Any] = msgspec.field(default_factory=dict)
    newest: Mapping[str, str | None] | None = None


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

    def discard(self, run: StepRunId, stack: Stack) -> None:
        """Stop what still runs for a task instance whose deferred step has a result or an error."""

    def execute(self, execution: Execution) -> StepResult:
        """Run the function; raise its exception, or one of the same name with its traceback.

        Raises `StepDeferred` if this process does not have to wait, and the hooks support deferral. If another
        `BaseException` interrupts the call in this process, such as `StepInterrupted`, the remote execution is stopped.
        """
        raise NotImplementedError


class InProcess(Runtime, msgspec.Struct, frozen=True):
    """Run the function in the process of the task: `InProcess()`."""

    def ingredients(self, step: Step, stack: Stack) -> None:
        """Return None: the distributions of this process are in the key where the code reaches them."""

    def execute(self, execution: Execution) -> StepResult:
        """Load the inputs, call the function and store what it returns, in this thread."""
        from airflow_zen.steps.in_process import execute

        return StepResult(*execute(execution))


IN_PROCESS = InProcess()
