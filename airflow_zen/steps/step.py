"""The user's function with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.caching.policy import FOLLOW_SETTINGS, Cache
from airflow_zen.steps.annotations import parameter_artifacts, parameter_types, runtime_class
from airflow_zen.steps.outputs import Outputs, declared_output_type, declared_outputs, output_artifacts, output_types

if TYPE_CHECKING:
    from airflow_zen.materializers.annotations import Artifact
    from airflow_zen.materializers.base import Materializer
    from airflow_zen.stack import Stack


class Step(msgspec.Struct, frozen=True, dict=True):
    """A function to run as a step.

    `version` is the user's own addition to the cache key, `cache` says what else is in it; `cache_always`
    reuses even a step that returns nothing. `previews` says whether outputs are shown that do not say so themselves;
    None leaves it to the deployment.
    """

    function: Callable[..., Any]
    name: str
    version: str = ""
    cache: Cache = FOLLOW_SETTINGS
    cache_always: bool = False
    previews: bool | None = None

    def with_cache_defaults(self, defaults: Cache) -> Step:
        """Take from `defaults` what the step's own `Cache` leaves open."""
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
        """What the annotations of outputs say of who stores them."""
        return output_artifacts(self.function, self.outputs)

    @property
    def materializers(self) -> list[type[Materializer]]:
        """The materializers that its annotations name, on outputs and on parameters."""
        named = [*self.output_artifacts.values(), *parameter_artifacts(self.function)]
        return [artifact.materializer for artifact in named if artifact.materializer]

    def extend_stack(self, stack: Stack) -> Stack:
        """Give a stack that also reads what the step's own materializers write."""
        return stack.with_materializers(self.materializers) if self.materializers else stack

    @property
    def source(self) -> str:
        """The function's text as written, empty where it has none."""
        try:
            return inspect.getsource(inspect.unwrap(self.function))
        except (OSError, TypeError):
            return ""

    def declared_class(self, output: str) -> type | None:
        """Give the class an output is declared as, for its materializer."""
        return runtime_class(declared_output_type(output, self.output_types))

    def output_materializer(self, output: str) -> type[Materializer] | None:
        """Give the materializer that an output's annotation names; None where it is chosen by type."""
        artifact = self._artifact(output)
        return artifact.materializer if artifact else None

    def has_previews(self, output: str, default: bool) -> bool:
        """Tell whether an output is shown to people; `default` where neither its annotation nor the step says."""
        artifact = self._artifact(output)
        asked = (artifact.previews if artifact else None, self.previews)
        return next((said for said in asked if said is not None), default)

    def _artifact(self, output: str) -> Artifact | None:
        return self.output_artifacts.get(output) or self.output_artifacts.get(output.partition("[")[0])

    def returns_nothing(self, result: Any) -> bool:
        """Tell whether this result means no output: declared so, or an undeclared None."""
        undeclared = inspect.signature(self.function).return_annotation is inspect.Signature.empty
        return not self.outputs.names or (result is None and undeclared)
