"""The runtime `TorchElastic`: one function in several processes of a worker, under PyTorch's elastic launch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import StepDefinitionError
from airflow_zen.runtimes.python import Python
from airflow_zen.runtimes.virtualenv import Virtualenv
from airflow_zen.steps.runtime import RankOptions, Runtime

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.steps.step import Step

_BACKENDS = ("", "gloo", "nccl", "mpi", None)


class TorchElastic(Runtime, msgspec.Struct, frozen=True):
    """Run the function in several processes, the ranks: `TorchElastic(nproc_per_node=2, max_restarts=3)`.

    `nproc_per_node`: the number of ranks, which is in the cache key. `max_restarts`: how often all ranks are started again
    after one of them failed. `backend`: that of the default process group, which is initialized before the function is
    called; "" is nccl if each rank has a GPU, and gloo otherwise; None leaves it to the function. `in_`: a `Virtualenv`
    or `Python` with PyTorch 2.4 or later; None is the interpreter of the worker.
    """

    nproc_per_node: int = 1
    max_restarts: int = 0
    backend: str | None = ""
    in_: Runtime | None = None

    def __post_init__(self) -> None:
        """Check the options where they are written."""
        counts = {"nproc_per_node": (self.nproc_per_node, 1), "max_restarts": (self.max_restarts, 0)}
        for name, (given, least) in counts.items():
            value: Any = given
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise StepDefinitionError(f"TorchElastic({name}={value!r}) takes a whole number from {least} on.")
        if self.backend not in _BACKENDS:
            raise StepDefinitionError(
                f"TorchElastic(backend={self.backend!r}) takes 'gloo', 'nccl', 'mpi', '' or None."
            )
        if not isinstance(self.in_, Virtualenv | Python | None):
            raise StepDefinitionError(
                f"TorchElastic(in_={self.in_!r}) takes a Virtualenv, a Python or None: its processes run on the worker."
            )

    @property
    def ranks(self) -> RankOptions:
        """Return what the far side needs to know."""
        return RankOptions(self.nproc_per_node, self.max_restarts, self.backend)

    def ingredients(self, step: Step, stack: Stack) -> Mapping[str, str] | None:
        """Return those of the environment."""
        return self.in_.ingredients(step, stack) if self.in_ else None

    def execute(self, execution: Execution) -> StepResult:
        """Run the function in the ranks, whose launcher is a child process of the task."""
        from airflow_zen.runtimes.child_process import execute_in_process

        return self.in_.execute(execution) if self.in_ else execute_in_process(sys.executable, execution, self)
