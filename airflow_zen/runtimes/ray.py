"""The runtime `Ray`: a job of an existing Ray cluster, or an actor where the cluster has no dashboard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import force_setattr

from airflow_zen.errors import RuntimeUnavailable, StepDefinitionError
from airflow_zen.runtimes.memory_limits import memory_limits
from airflow_zen.steps.runtime import Runtime

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.steps.step import Step


class Ray(Runtime, msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Run the function on a Ray cluster: `Ray("http://ray-head:8265", num_cpus=4, num_gpus=1)`.

    `address`: the URL of the dashboard, or the cluster's as for `ray.init`: "ray://HOST:10001", "HOST:6379", "auto". The
    step is a job where the dashboard answers, and otherwise an actor that ends with the task. Ray, Ray Train and Ray Tune
    inside the function use the same cluster. The nodes need what the step imports, and reach the artifact root; this
    package is sent to them.

    `num_cpus`, `num_gpus`, `memory`, `resources`: what the function's process reserves; tasks and workers that the
    function starts reserve their own. A sequence of memory has one amount for each try of the task, and the last one is
    that of all later tries. `environment`: variables. `runtime_env`: a runtime environment of Ray, such as
    {"pip": ["xgboost==3.0"]}. `version`: what is installed on the nodes, in your words; it is in the cache key together
    with `runtime_env`, and replaces the distributions of the worker there. `python`: the interpreter of the nodes.
    `startup_timeout`: seconds that the cluster has to start the step. `artifact_root`: the artifact root as the nodes
    reach it, where that differs.
    """

    address: str
    num_cpus: float = 1
    num_gpus: float = 0
    memory: str | Sequence[str] = ()
    resources: Mapping[str, float] = msgspec.field(default_factory=dict)
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    runtime_env: Mapping[str, Any] = msgspec.field(default_factory=dict)
    version: str = ""
    python: str = "python"
    startup_timeout: int = 600
    artifact_root: str = ""

    def __post_init__(self) -> None:
        """Check the options where they are written, and put them in one form."""
        address: Any = self.address
        if not isinstance(address, str) or not address.strip():
            raise StepDefinitionError(
                f"Ray(…) takes the address of a cluster, such as 'http://ray-head:8265', got {address!r}."
            )
        for name in ("num_cpus", "num_gpus"):
            number: Any = getattr(self, name)
            if not isinstance(number, int | float) or number < 0:
                raise StepDefinitionError(f"{name} must be a number, such as 2 or 0.5, got {number!r}.")
        force_setattr(self, "memory", memory_limits(self.memory))
        for name in ("resources", "environment", "runtime_env"):
            force_setattr(self, name, dict(sorted(getattr(self, name).items())))

    def ingredients(self, step: Step, stack: Stack) -> Mapping[str, str]:
        """Return what describes the nodes: `version` and `runtime_env`; the cluster is not asked."""
        return {"environment": json.dumps([self.version, self.runtime_env], sort_keys=True)}

    def execute(self, execution: Execution) -> StepResult:
        """Run the function on the cluster, or wait for the job that an earlier process of this task has submitted.

        Raises the function's error, or `RuntimeUnavailable` for a process that ended without an answer.
        """
        try:
            runs = import_module("airflow_zen.runtimes.ray_jobs")
        except ImportError as error:
            raise RuntimeUnavailable(f"{self!r} needs Ray: pip install airflow-provider-zen[ray].") from error
        result: StepResult = runs.run_on_cluster(self, execution)
        return result
