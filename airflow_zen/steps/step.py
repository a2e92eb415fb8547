"""The user's function with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from airflow_zen.caching.policy import FOLLOW_SETTINGS, Cache
from airflow_zen.steps.annotations import as_class, parameter_types
from airflow_zen.steps.each import type_of
from airflow_zen.steps.outputs import Outputs, declared_outputs, output_types


@dataclass(frozen=True)
class Step:
    """A function to run as a step.

    `version` is the user's own addition to the cache key, `cache` says what else is in it; `cache_always`
    reuses even a step that returns nothing.
    """

    function: Callable[..., Any]
    name: str
    version: str = ""
    cache: Cache = FOLLOW_SETTINGS
    cache_always: bool = False

    def with_cache_defaults(self, defaults: Cache) -> Step:
        """Take from `defaults` what the step's own `Cache` leaves open."""
        return replace(self, cache=self.cache.over(defaults))

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

    @property
    def source(self) -> str:
        """The function's text as written, empty where it has none."""
        try:
            return inspect.getsource(inspect.unwrap(self.function))
        except (OSError, TypeError):
            return ""

    def declared_class(self, output: str) -> type | None:
        """Give the class an output is declared as, for its materializer."""
        return as_class(type_of(output, self.output_types))

    def returns_nothing(self, result: Any) -> bool:
        """Tell whether this result means no output: declared so, or an undeclared None."""
        undeclared = inspect.signature(self.function).return_annotation is inspect.Signature.empty
        return not self.outputs.names or (result is None and undeclared)
