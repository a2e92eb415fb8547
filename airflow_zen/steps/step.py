"""`Step`: the user's function with its options; `Cache`: the ingredients of its cache key, and the age of results."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict, force_setattr, replace

from airflow_zen.errors import StepDefinitionError
from airflow_zen.materializers.annotations import (
    WARN,
    Artifact,
    FailureAction,
    element_type,
    is_stream_annotation,
    strip_annotation,
)
from airflow_zen.steps.annotations import Imports, resolve_parameters, resolve_type
from airflow_zen.steps.outputs import (
    CHECKS_SUFFIX,
    SINGLE_OUTPUT,
    Outputs,
    artifact_marker,
    checked_output,
    declared_outputs,
    output_artifacts,
    output_types,
    runtime_class,
)  # fmt: skip
from airflow_zen.steps.runtime import IN_PROCESS, Runtime

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer
    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.stack import Stack
    from airflow_zen.steps.trial import Trial


class Cache(msgspec.Struct, frozen=True):
    """Reuse a step's results, with a choice of what its cache key is made of.

    `ttl`: seconds, or a timedelta, after which a result is computed again; `math.inf` keeps it for ever. `ignore`:
    parameters that are not in the key. `files`: patterns of files whose content is in the key, relative to the file
    that defines the step (`sql/*.sql`). `env`: environment variables that are in the key. `key`: called with the
    arguments by name, artifacts as `ArtifactRef`s; its result replaces all arguments in the key. `packages`: False
    leaves out the versions of libraries. `scope`: `"shared"` reuses results of every DAG, `"dag"` only of the step's
    own. None follows the `[zen] cache_*` option. Raises `StepDefinitionError` for invalid values.
    """

    ttl: timedelta | float | None = None
    ignore: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    key: Callable[..., Any] | None = None
    packages: bool | None = None
    scope: str | None = None

    def __post_init__(self) -> None:
        """Check the values where they are written."""
        for name in ("ignore", "files", "env"):
            given = getattr(self, name)
            texts = (given,) if isinstance(given, str) else given
            is_valid = isinstance(texts, list | tuple) and all(isinstance(text, str) and text for text in texts)
            _check_value(name, given, is_valid, "names in a tuple")
            force_setattr(self, name, tuple(texts))
        for pattern in self.files:
            wanted = "patterns relative to the file that defines the step"
            _check_value("files", pattern, not PurePath(pattern).is_absolute(), wanted)
        ttl: Any = self.ttl
        is_valid = isinstance(ttl, timedelta | float | int | None) and not isinstance(ttl, bool)
        wanted = "a timedelta, or seconds, above zero (cache=False never reuses a result)"
        _check_value("ttl", ttl, is_valid and self.ttl_seconds > 0, wanted)
        _check_value("key", self.key, self.key is None or callable(self.key), "a function of the step's arguments")
        _check_value("packages", self.packages, isinstance(self.packages, bool | None), "True or False")
        _check_value("scope", self.scope, self.scope in (None, "shared", "dag"), "'shared' or 'dag'")

    @property
    def ttl_seconds(self) -> float:
        """The maximum age in seconds of a reused result."""
        if isinstance(self.ttl, timedelta):
            return self.ttl.total_seconds()
        return math.inf if self.ttl is None else float(self.ttl)

    def __repr__(self) -> str:
        """Show the chosen options; equal in every process, because Airflow serializes it with mapped tasks."""
        options = asdict(self)
        if self.key is not None:
            named = getattr(self.key, "func", self.key)
            options["key"] = str(getattr(named, "__qualname__", type(named).__qualname__))
        return f"Cache({', '.join(f'{name}={value!r}' for name, value in options.items() if value not in (None, ()))})"


def _check_value(name: str, given: Any, is_valid: bool, wanted: str) -> None:
    if not is_valid:
        raise StepDefinitionError(f"Cache({name}=…) takes {wanted}, got {given!r}.")


FOLLOW_SETTINGS = Cache()


class Step(msgspec.Struct, frozen=True, dict=True):
    """A function to run as a step.

    `version` is the user's own addition to the cache key, `cache` configures the rest of it. `cache_always`
    reuses even a step that returns nothing. `previews` is the default for outputs whose annotation does not decide it;
    None leaves it to the deployment. `runtime` is where the function runs. `on_failure` is what a failed
    `ValidationReport` among its outputs does. `trial` makes it a trial of a sweep. Annotations are
    evaluated when they are first asked for.
    """

    function: Callable[..., Any]
    name: str
    version: str = ""
    cache: Cache = FOLLOW_SETTINGS
    cache_always: bool = False
    previews: bool | None = None
    runtime: Runtime = IN_PROCESS
    on_failure: FailureAction = WARN
    trial: Trial | None = None

    def with_cache_defaults(self, defaults: Cache) -> Step:
        """Return the step with `defaults` for the options of its `Cache` that are None."""
        unset = [name for name in ("ttl", "packages", "scope") if getattr(self.cache, name) is None]
        cache = replace(self.cache, **{name: getattr(defaults, name) for name in unset})
        return replace(self, cache=cache)

    @cached_property
    def outputs(self) -> Outputs:
        """The declared output names."""
        return declared_outputs(self.function)

    @cached_property
    def output_types(self) -> Mapping[str, Any]:
        """The declared type of each output."""
        return output_types(self.function, self.outputs)

    @cached_property
    def light_output_types(self) -> Mapping[str, Any]:
        """The declared type of each output, with a stand-in for a library's class that only type checkers import."""
        return output_types(self.function, self.outputs, Imports.LIGHT)

    @property
    def is_stream(self) -> bool:
        """Whether the function is declared to yield the batches of its output."""
        types = list(self.output_types.values())
        return not self.outputs.is_multiple and any(map(is_stream_annotation, map(strip_annotation, types)))

    @cached_property
    def parameter_types(self) -> Mapping[str, Any]:
        """The declared type of each parameter."""
        return resolve_parameters(self.function)

    @cached_property
    def light_parameter_types(self) -> Mapping[str, Any]:
        """The declared type of each parameter, with stand-ins as in `light_output_types`."""
        return resolve_parameters(self.function, Imports.LIGHT)

    def parameter_type(self, name: str) -> Any:
        """Return the declared type of one parameter; the types of others are not imported."""
        return resolve_type(inspect.signature(self.function).parameters[name].annotation, self.function)

    @cached_property
    def _output_artifacts(self) -> Mapping[str, Artifact]:
        return output_artifacts(self.function, self.outputs)

    @cached_property
    def materializers(self) -> list[type[Materializer]]:
        """The materializers in its annotations, of outputs and of parameters."""
        parameters = {name: artifact_marker(written) for name, written in self.light_parameter_types.items()}
        for name, mark in parameters.items():
            if mark and mark.checks:
                raise StepDefinitionError(
                    f"Parameter {name!r} of step {self.name!r} declares checks, which are made of outputs. Declare them where "
                    "the artifact is made, or check it in a step of its own: validate(artifact, …)."
                )
        marks = [*self._output_artifacts.values(), *parameters.values()]
        return [mark.materializer for mark in marks if mark and mark.materializer]

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

    def artifact_name(self, run: StepRunId, output: str) -> str:
        """Return the name of an output's artifact: the one that its annotation gives, or one after DAG and task.

        The latter are `dag/task`, `dag/task.train`, and `dag/task[3]` for an element of a list marked `Each`. The report of
        an output's checks has its name with `.checks`.
        """
        if checked := checked_output(output):
            return f"{self.artifact_name(run, checked)}{CHECKS_SUFFIX}"
        if output in self.outputs.artifact_names:
            return self.outputs.artifact_names[output]
        is_single = output.partition("[")[0] == SINGLE_OUTPUT
        return f"{run.dag_id}/{run.task_id}{output.removeprefix(SINGLE_OUTPUT) if is_single else f'.{output}'}"

    def version_names(self, run: StepRunId, outputs: Iterable[str]) -> dict[str, str]:
        """Return by output the name under which it becomes a version; each instance of a mapped step has its own.

        A history shared by all instances would get a version from each of them in every run. Elements of a list marked
        `Each` have no versions, because the element at one position is another thing in the next run.
        """
        index = "" if run.map_index < 0 else f"[{run.map_index}]"
        return {} if self.outputs.each else {output: self.artifact_name(run, output) + index for output in outputs}

    def declared_class(self, output: str) -> type | None:
        """Return the class that an output, or an element of it (`output[3]`), is declared as."""
        if checked_output(output):
            return None
        whole, bracket, at = output.partition("[")
        types = self.output_types
        is_element = bracket and output not in types
        return runtime_class(element_type(types.get(whole), int(at.rstrip("]"))) if is_element else types.get(output))

    def output_artifact(self, output: str) -> Artifact:
        """Return the mark of an output, or of the marked list that it is an element of; an empty one without any."""
        if checked_output(output):
            return Artifact()
        found = self._output_artifacts.get(output) or self._output_artifacts.get(output.partition("[")[0])
        return found or Artifact()

    def checks(self, output: str) -> tuple[Any, ...]:
        """Return the validators that are declared on an output."""
        found: tuple[Any, ...] = self.output_artifact(output).checks
        return found

    def failure_action(self, output: str) -> FailureAction:
        """Return the declared effect of this output if it is a `ValidationReport` that failed."""
        checked = checked_output(output)
        return self.output_artifact(checked).on_failure if checked else self.on_failure

    def has_previews(self, output: str, default: bool) -> bool:
        """Whether an output gets a preview; `default` if neither its annotation nor the step decides it."""
        options = (self.output_artifact(output).previews, self.previews, default)
        return next(option for option in options if option is not None)

    def returns_nothing(self, result: Any) -> bool:
        """Whether this result means no output: it is declared so, or it is None without a declaration."""
        undeclared = inspect.signature(self.function).return_annotation is inspect.Signature.empty
        return not self.outputs.names or (result is None and undeclared)
