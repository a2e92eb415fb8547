"""What the runtimes in pods have in common: their run, resources, and parts of a pod in literals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_zen.errors import RuntimeUnavailable, StepDefinitionError
from airflow_zen.runtimes.memory_limits import memory_of_try
from airflow_zen.steps.runtime import Runtime

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.stack import Stack
    from airflow_zen.steps.runtime import Execution, StepResult


class ClusterRuntime(Runtime):
    """A runtime whose step runs in the cluster of a connection, by a class that needs the Kubernetes provider."""

    RUN: ClassVar[tuple[str, str]]
    """The module and the name of the class of a run."""

    def execute(self, execution: Execution) -> StepResult:
        """Run the function in the cluster, or wait for what an earlier process of this task has started there.

        Raises the function's error, or `RuntimeUnavailable` for a pod or job that ended without an answer.
        """
        result: StepResult = self._run_class()(self, execution).result()
        return result

    def discard(self, run: StepRunId, stack: Stack) -> None:
        """Delete the pods or jobs of a task instance; one that has ended may be kept."""
        self._run_class().delete_all(self, run, stack.store.transport)

    def _run_class(self) -> Any:
        module, name = self.RUN
        try:
            return getattr(import_module(module), name)
        except ImportError as error:
            raise RuntimeUnavailable(
                f"{self!r} needs the Kubernetes provider: pip install airflow-provider-zen[kubernetes]."
            ) from error


def pod_resources(runtime: Any, try_number: int) -> dict[str, Any]:
    """Return the requests and limits of a container: the `cpu`, `memory` and `gpu` of a runtime in a try."""
    wanted = {"cpu": runtime.cpu, "memory": memory_of_try(tuple(runtime.memory), try_number)}
    limits = {name: amount for name, amount in wanted.items() if amount}
    if runtime.gpu:
        limits[runtime.gpu_resource] = str(runtime.gpu)
    return {"requests": limits, "limits": limits} if limits else {}


def plain_sequence(name: str, value: Any) -> tuple[Any, ...]:
    """Return a list of parts in literals. Raises `StepDefinitionError` for anything else."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise StepDefinitionError(f"{name} must be a list, got {value!r}.")
    return tuple(plain_option(each) for each in value)


def plain_option(value: Any) -> Any:
    """Return an option in literals, because the repr of a runtime is its text in settings."""
    if hasattr(value, "openapi_types"):
        from kubernetes.client import ApiClient

        return ApiClient().sanitize_for_serialization(value)
    if type(value).__name__ == "Secret" and hasattr(value, "deploy_type"):
        return {key: held for key, held in vars(value).items() if held}
    if isinstance(value, Mapping):
        return {str(key): plain_option(held) for key, held in sorted(value.items())}
    return [plain_option(each) for each in value] if isinstance(value, list | tuple) else value
