"""The user's function with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.caching.policy import FOLLOW_SETTINGS, Cache
from airflow_zen.materializers.annotations import Artifact
from airflow_zen.steps.annotations import parameter_artifacts, parameter_types, runtime_class
from airflow_zen.steps.outputs import Outputs, declared_output_type, declared_outputs, output_artifacts, output_types

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer
    from airflow_zen.stack import Stack


class Step(msgspec.Struct, frozen=True, dict=True):
    """A function to run as a step.

    `version` is the user's own addition to the cache key, `cache` configures the rest of it. `cache_always`
    reuses even a step that returns nothing. `previews` is the default for outputs whose annotation does not decide it;
    None leaves it to the deployment.
    """

    function: Callable[..., Any]
    name: str
    version: str = ""
    cache: Cache = FOLLOW_SETTINGS
    cache_always: bool = False
    previews: bool | None = None

    def with_cache_defaults(self, defaults: Cache) -> Step:
        """Return the step with `defaults` for what its own `Cache` does not set."""
        return replace(self, cache=self.cache.with_defaults(defaults))

    @cached_property
    def outputs(self) -> Outputs:
        """The declared output names."""
        return declared_outputs(self.function)

    @cached_property
    def output_types(self) -> Mapping[str, Any]:
        """The declared type of each output; evaluated when first asked for."""
        return output_types(self.function, self.outputs)

    @cached_property
    def parameter_types(self) -> Mapping[str, Any]:
        """The declared type of each parameter; evaluated when first asked for."""
        return parameter_types(self.function)

    @cached_property
    def output_artifacts(self) -> Mapping[str, Artifact]:
        """The `Artifact(…)` of the outputs that have one."""
        return output_artifacts(self.function, self.outputs)

    @property
    def materializers(self) -> list[type[Materializer]]:
        """The materializers in its annotations, of outputs and of parameters."""
        named = [*self.output_artifacts.values(), *parameter_artifacts(self.function)]
        return [artifact.materializer for artifact in named if artifact.materializer]

    def extend_stack(self, stack: Stack) -> Stack:
        """Return a stack that also reads what the step's own materializers write."""
        return stack.with_materializers(self.materializers) if self.materializers else stack

    @property
    def source(self) -> str:
        """The source text of the function; empty if there is none."""
        try:
            return inspect.getsource(inspect.unwrap(self.function))
        except (OSError, TypeError):
            return ""

    def declared_class(self, output: str) -> type | None:
        """Return the class an output is declared as, for its materializer."""
        return runtime_class(declared_output_type(output, self.output_types))

    def output_materializer(self, output: str) -> type[Materializer] | None:
        """Return the materializer in an output's annotation; None if it is chosen by type."""
        return self._artifact(output).materializer

    def has_previews(self, output: str, default: bool) -> bool:
        """Whether an output gets a preview; `default` if neither its annotation nor the step decides it."""
        options = (self._artifact(output).previews, self.previews, default)
        return next(option for option in options if option is not None)

    def returns_nothing(self, result: Any) -> bool:
        """Whether this result means no output: declared so, or an undeclared None."""
        undeclared = inspect.signature(self.function).return_annotation is inspect.Signature.empty
        return not self.outputs.names or (result is None and undeclared)

    def _artifact(self, output: str) -> Artifact:
        """Return the mark of an output; `output[3]` is an element of a marked list."""
        found = self.output_artifacts.get(output) or self.output_artifacts.get(output.partition("[")[0])
        return found or Artifact()
