"""Options that all runtimes in pods have: resources, and parts of a pod in literals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_zen.errors import StepDefinitionError
from airflow_zen.runtimes.memory_limits import memory_of_try


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
