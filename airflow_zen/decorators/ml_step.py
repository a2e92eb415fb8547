"""`@ml_step`, which is `@task.ml_step`: a typed function becomes a step."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from airflow.sdk.bases.decorator import DecoratedOperator, _TaskDecorator, get_unique_task_id
from airflow.sdk.definitions._internal.contextmanager import DagContext
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS
from airflow.sdk.definitions.xcom_arg import XComArg

from airflow_zen.artifacts.ref import VersionSelector
from airflow_zen.errors import StepDefinitionError
from airflow_zen.models.model import Model, as_selector
from airflow_zen.operators.artifact import load_keyword_arguments, with_default_models
from airflow_zen.operators.assets import inlets_of, merge_assets, outlets_of
from airflow_zen.operators.ml_step import OPTION_TYPES, MLStepOperator, StepOutputs, check_option, refuse_skips
from airflow_zen.steps.outputs import declared_outputs
from airflow_zen.steps.step import Cache

if TYPE_CHECKING:
    from airflow_zen.decorators.step_function import StepFunction
    from airflow_zen.operators.fused import FusedOperator
    from airflow_zen.steps.runtime import ResourceHints, Runtime

P = ParamSpec("P")
R = TypeVar("R")


class _MLStepDecoratedOperator(DecoratedOperator, MLStepOperator):
    """The operator behind `@ml_step`."""

    template_fields: Sequence[str] = MLStepOperator.template_fields
    template_fields_renderers = MLStepOperator.template_fields_renderers
    custom_operator_name = "@ml_step"
    is_async = MLStepOperator.is_async

    def __init__(
        self, *, python_callable: Callable[..., Any], op_args: Any = (), op_kwargs: Any = None, **options: Any
    ) -> None:
        op_kwargs = with_default_models(python_callable, op_args, op_kwargs or {})
        op_args, op_kwargs = _pass_context_arguments_by_keyword(python_callable, tuple(op_args), op_kwargs)
        upstream = {"python_callable": python_callable, "op_args": op_args, "op_kwargs": op_kwargs}
        super().__init__(kwargs_to_upstream=upstream, **upstream, **options)

    def _hook_apply_defaults(self, *args: Any, **kwargs: Any) -> Any:
        """Hide our own options in `default_args`, which Airflow would take for arguments of the function."""
        defaults = kwargs.get("default_args")
        operator_defaults = {name: value for name, value in (defaults or {}).items() if name not in OPTION_TYPES}
        args, kwargs = super()._hook_apply_defaults(*args, **{**kwargs, "default_args": operator_defaults})  # type: ignore[no-untyped-call]
        return args, {**kwargs, "default_args": defaults}


class _FusedStepOperator(_MLStepDecoratedOperator):
    """A step of a fused group, whose task has its dependencies; it knows the DAG, and is no task of it."""

    def _convert__dag(self, dag: Any) -> Any:
        """Return the DAG as it is."""
        return dag

    def _set_xcomargs_dependencies(self) -> None:
        """Set none."""

    def _set_xcomargs_dependency(self, field: str, newvalue: Any) -> None:
        """Set none."""


class StepDecorator(_TaskDecorator[P, R, MLStepOperator], Generic[P, R]):
    """A decorated function: called in a DAG it becomes a task, called anywhere else it is the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add the step to the DAG being defined; outside one, run the plain function."""
        given = [*args, *kwargs.values()]
        is_in_dag = DagContext.get_current() is not None or "dag" in self.kwargs
        if not is_in_dag and next(XComArg.iter_xcom_references(given), None) is None:
            return _call_outside_a_dag(self.function, args, kwargs)
        _refuse_nested_outputs(self.function.__name__, given)
        if (group := _current_group()) is not None:
            return self._add_to_group(group, args, kwargs)
        return self._to_step_outputs(super().__call__(*args, **kwargs))

    def _add_to_group(self, group: FusedOperator, args: Any, kwargs: Any) -> Any:
        from airflow_zen.operators.fused import outside_of_dag

        group.check_options(self.function.__name__, self.kwargs)
        name = group.name_of_next(self.kwargs["task_id"])
        options = {**self.kwargs, "task_id": f"{group.task_id}.{name}", "default_args": group.dag.default_args}
        with outside_of_dag():
            operator = _FusedStepOperator(python_callable=self.function, op_args=args, op_kwargs=kwargs, **options)
        return group.add(name, operator)

    def _validate_arg_names(self, func: Any, kwargs: dict[str, Any]) -> None:
        for name in sorted(KNOWN_CONTEXT_KEYS.intersection(kwargs)):
            raise StepDefinitionError(
                f"Step {self.function.__name__!r} cannot {func} over {name!r}, a name of Airflow's context. Rename the "
                f"parameter, for example to 'hyper_{name}'."
            )
        super()._validate_arg_names(func, kwargs)

    def expand(self, batch: Any = None, **kwargs: Any) -> Any:
        """Map the step over lists; see Airflow's dynamic task mapping.

        `batch`: the number of elements that one task runs, each with its own record, cache entry and lineage.
        """
        _refuse_in_group(self.function.__name__)
        if batch is not None and not isinstance(batch, int):
            kwargs, batch = {"batch": batch, **kwargs}, None
        for name, value in kwargs.items():
            _refuse_expand_over_version(self.function.__name__, name, value)
            _refuse_batches(self.function.__name__, name, value)
            if name in self.kwargs and name in OPTION_TYPES:
                raise StepDefinitionError(
                    f"Step {self.function.__name__!r} has the option {name}=… and is mapped over a parameter of that name. "
                    "Rename the parameter."
                )
        if batch is not None:
            self._validate_arg_names("expand", kwargs)
            return self._expand_in_batches(kwargs, batch, strict=False)
        return self._to_step_outputs(_declare_assets(super().expand(**kwargs), self.function))

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True, batch: int | None = None) -> Any:
        """Map the step over a list of keyword arguments; see Airflow's dynamic task mapping.

        The list may come from a step that marks its `list[dict]` with `Each`, or from a mapped step that returns dicts.
        `batch`: as in `expand`.
        """
        _refuse_in_group(self.function.__name__)
        _refuse_batches(self.function.__name__, "kwargs", kwargs)
        for value in kwargs if isinstance(kwargs, list | tuple) else [kwargs]:
            _refuse_expand_over_version(self.function.__name__, "kwargs", value)
        if batch is not None:
            return self._expand_in_batches(kwargs, batch, strict=strict)
        task = super().expand_kwargs(_load_when_mapped(kwargs), strict=strict)
        return self._to_step_outputs(_declare_assets(task, self.function))

    def override(self, **kwargs: Any) -> Any:
        """Copy the step with other options."""
        _check_options(self.function, kwargs)
        return super().override(**kwargs)

    def _expand_in_batches(self, elements: Any, size: int, *, strict: bool) -> Any:
        from airflow_zen.operators.batch import BatchOutput, BatchOutputs, expand_in_batches

        options = {"op_args": [], "op_kwargs": {}, **self.kwargs, "python_callable": self.function, "strict": strict}
        task_id, outputs = get_unique_task_id(options.pop("task_id")), declared_outputs(self.function)
        _add_assets(options, self.function, [options["op_args"], options["op_kwargs"], elements])
        task = expand_in_batches(elements, size, task_id, options)
        return BatchOutputs(task, outputs.names) if outputs.is_multiple else BatchOutput(task)

    def _to_step_outputs(self, task: Any) -> Any:
        outputs = declared_outputs(self.function)
        return StepOutputs(task.operator, outputs.names) if outputs.is_multiple else task


def _call_outside_a_dag(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function, whose code may run later, so that what it logs stays out of the working directory."""

    async def await_it(coroutine: Any) -> Any:
        with _plain_calls.log_elsewhere():
            return await coroutine

    def iterate_it(generator: Any) -> Generator[Any, Any, Any]:
        with _plain_calls.log_elsewhere():
            return (yield from generator)

    with _plain_calls.log_elsewhere():
        result = function(*args, **kwargs)
    if inspect.iscoroutine(result):
        return await_it(result)
    return iterate_it(result) if inspect.isgenerator(result) else result


class _PlainCalls:
    """The calls of steps as functions that run now; they overlap where threads, coroutines or generators do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._environment = ExitStack()

    @contextmanager
    def log_elsewhere(self) -> Iterator[None]:
        """Keep what the block logs in a temporary directory, unless MLflow has a tracking URI or a run.

        MLflow's own default is `mlflow.db` in the working directory.
        """
        with self._lock:
            if is_ours := bool(self._running) or not _has_mlflow_destination():
                self._begin()
        try:
            yield
        finally:
            with self._lock:
                if is_ours:
                    self._end()

    def _begin(self) -> None:
        from airflow_zen.lineage.recorder import log_into_folder

        if not self._running:
            self._environment.enter_context(log_into_folder(Path(_tracking_directory().name)))
        self._running += 1

    def _end(self) -> None:
        self._running -= 1
        if not self._running:
            self._environment.close()


_plain_calls = _PlainCalls()


def _has_mlflow_destination() -> bool:
    mlflow = sys.modules.get("mlflow")
    return bool(
        os.environ.get("MLFLOW_TRACKING_URI") or (mlflow and (mlflow.is_tracking_uri_set() or mlflow.active_run()))
    )


@cache
def _tracking_directory() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="airflow-zen-mlflow-")


def _declare_assets(task: Any, function: Callable[..., Any]) -> Any:
    """Declare the assets of a mapped task, whose operator Airflow creates only when it runs."""
    if declared_outputs(function).skips:
        refuse_skips(task.operator.task_id)
    options = task.operator.partial_kwargs
    arguments = [options["op_args"], options["op_kwargs"], task.operator.op_kwargs_expand_input.value]
    _add_assets(options, function, arguments)
    return task


def _add_assets(options: dict[str, Any], function: Callable[..., Any], arguments: list[Any]) -> None:
    """Add the assets of a mapped step to the options of its task."""
    stack = options.get("stack", "")
    outlets = outlets_of(declared_outputs(function).artifact_names, stack)
    for attribute, assets in (("outlets", outlets), ("inlets", inlets_of(arguments, stack))):
        declared = options.get(attribute) or []
        if assets:
            options[attribute] = merge_assets(declared if isinstance(declared, list | tuple) else [declared], assets)


def _current_group() -> FusedOperator | None:
    """Return the fused group that is being defined; none is where the module of groups was not imported."""
    groups = sys.modules.get("airflow_zen.operators.fused")
    return groups.current_group() if groups else None


def _refuse_in_group(step: str) -> None:
    if (group := _current_group()) is not None:
        group.refuse_mapped(step)


def _refuse_batches(step: str, name: str, value: Any) -> None:
    """Refuse to map over the results of a step that runs in batches."""
    if isinstance(value, XComArg) and (refuse := getattr(value, "refuse_mapping", None)):
        refuse(step, name)


def _refuse_expand_over_version(step: str, name: str, value: Any) -> None:
    """Refuse to map over a version of one artifact: Airflow would map over the fields of its selector."""
    if VersionSelector.is_wire(value) or as_selector(value):
        raise StepDefinitionError(
            f"Step {step!r} cannot be expanded over {name}, a version of one artifact. Pass it with partial, or expand over "
            "a list of them."
        )


def _load_when_mapped(kwargs: Any) -> Any:
    """Return keyword arguments that are artifacts of a step's as those that are loaded when a mapped task runs."""
    operators = [operator for operator, _ in kwargs.iter_references()] if isinstance(kwargs, XComArg) else []
    classes = [getattr(operator, "operator_class", type(operator)) for operator in operators]
    return kwargs.map(load_keyword_arguments) if any(issubclass(cls, MLStepOperator) for cls in classes) else kwargs


def _refuse_nested_outputs(step: str, arguments: list[Any]) -> None:
    """Refuse outputs of tasks inside dataclasses, where Airflow neither sees the dependency nor resolves the value."""
    for value in arguments:
        for part in fields(value) if is_dataclass(value) and not isinstance(value, type) else ():
            if isinstance(getattr(value, part.name, None), XComArg):
                raise StepDefinitionError(
                    f"Step {step!r} is given the output of a task inside {type(value).__name__}.{part.name}, where Airflow "
                    "does not see it. Pass it as an argument of its own, or in a list, tuple or dict."
                )


def _pass_context_arguments_by_keyword(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Pass an argument with a name of Airflow's context, and those after it, by keyword, as Airflow requires."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    for position, name in enumerate(names[: len(args)]):
        if name in KNOWN_CONTEXT_KEYS and len(args) <= len(names):
            return args[:position], {**dict(zip(names[position:], args[position:], strict=False)), **kwargs}
    return args, kwargs


def _check_definition(function: Any, options: dict[str, Any]) -> None:
    """Raise `StepDefinitionError` where the step is defined, for what would fail later or be lost silently."""
    if not callable(function):
        raise StepDefinitionError(
            f"@ml_step decorates functions, got {function!r}. Options go by name: @ml_step(cache=False)."
        )
    if not hasattr(function, "__name__"):
        raise StepDefinitionError(f"@ml_step needs a function with a name of its own, got {function!r}. Write a def.")
    name = function.__name__
    if getattr(function, "_airflow_is_task_decorator", False) or isinstance(function, _TaskDecorator):
        raise StepDefinitionError(
            f"@ml_step cannot be stacked on another task decorator (function {name!r}): Airflow keeps only one of them. "
            "Leave the other out, or give it to a function of its own and pass its result."
        )
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in KNOWN_CONTEXT_KEYS and parameter.default not in (None, inspect.Parameter.empty):
            raise StepDefinitionError(
                f"Parameter {parameter.name!r} of step {name!r} is a name of Airflow's context, which fills it in, so it "
                f"can have no default but None. Rename it, for example to 'hyper_{parameter.name}'."
            )
    _check_options(function, options)


def _check_options(function: Callable[..., Any], options: dict[str, Any]) -> None:
    cache, parameters = options.get("cache"), inspect.signature(function).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in cache.ignore if isinstance(cache, Cache) and not takes_any else ():
        if name not in parameters:
            raise StepDefinitionError(
                f"Step {function.__name__!r}: Cache(ignore=…) names {name!r}, which is not one of its parameters "
                f"{list(parameters)}."
            )
    for option in OPTION_TYPES.keys() & options.keys():
        check_option(options[option], option)
    if "multiple_outputs" in options:
        raise StepDefinitionError(
            f"Step {function.__name__!r}: outputs are declared by the return annotation, not by multiple_outputs. Write "
            "'-> Output(train=…, test=…)'."
        )


def _decorate(function: Callable[P, R], options: dict[str, Any]) -> StepDecorator[P, R]:
    _check_definition(function, options)
    return StepDecorator(
        function=function,
        multiple_outputs=declared_outputs(function).is_multiple,
        operator_class=_MLStepDecoratedOperator,
        decorator_name="ml_step",
        kwargs=dict(options),
    )


@overload
def ml_step(function: Callable[P, R], /) -> StepFunction[P, R]: ...


@overload
def ml_step(
    *,
    cache: bool | Cache | None = None,
    version: str = "",
    model: str | Model = "",
    stack: str = "",
    previews: bool | None = None,
    runtime: Runtime | str | None = None,
    hints: ResourceHints | None = None,
    **options: Any,
) -> Callable[[Callable[P, R]], StepFunction[P, R]]: ...


def ml_step(function: Any = None, /, **options: Any) -> Any:
    """Make a typed function a step: its outputs become artifacts, equal work is reused, its lineage is recorded.

    `cache`: False runs the function each time; a `Cache` says what the cache key is made of; None follows `[zen]
    cache`. `version`: your own addition to the cache key. `model`: the registered model that the returned model
    becomes a version of, as a name or a `Model`. `stack`: the stack the step runs in. `previews`: whether MLflow
    shows the outputs; None follows `[zen] previews`, and `Artifact(previews=…)` on an output takes precedence.
    `runtime`: where the function runs, such as `airflow_zen.runtimes.Virtualenv`; None follows `[zen] runtime`.
    `hints`: what it needs, as `ResourceHints`. All options of Airflow's operators (`retries`, `pool`, `queue`,
    `executor_config`, …) pass through. Also available as `@task.ml_step`. Raises `StepDefinitionError` for a definition that cannot work.
    """
    return _decorate(function, options) if function is not None else lambda decorated: _decorate(decorated, options)
