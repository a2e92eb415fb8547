"""`MLStepOperator`: a typed function as an Airflow task, with artifacts, cache and lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import XComArg
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial
from airflow.sdk.definitions.xcom_arg import ConcatXComArg, MapXComArg, PlainXComArg, ZipXComArg

from airflow_zen.errors import StepDefinitionError
from airflow_zen.materializers.annotations import FAIL, WARN
from airflow_zen.models.model import Model, validate_model_name
from airflow_zen.operators.artifact import with_default_models
from airflow_zen.operators.assets import inlets_of, merge_assets, outlets_of
from airflow_zen.operators.links import STEP_LINKS
from airflow_zen.steps.outputs import declared_outputs
from airflow_zen.steps.runtime import ResourceHints, Runtime
from airflow_zen.steps.step import FOLLOW_SETTINGS, Cache, Step

if TYPE_CHECKING:
    from airflow.sdk.types import Operator

    from airflow_zen.config.model_selectors import SelectorResolver
    from airflow_zen.runs.step_run import StepRun


OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "cache": (bool, type(None), Cache),
    "version": (str,),
    "model": (str, Model),
    "stack": (str,),
    "previews": (bool, type(None)),
    "runtime": (str, type(None), Runtime),
    "hints": (type(None), ResourceHints),
}


class MLStepOperator(PythonOperator):
    """Run a typed function as a step.

    `cache`: False runs the function each time; True also reuses a step that returns nothing; a `Cache` says what the
    cache key is made of; None follows `[zen] cache`. `version`: your own addition to the cache key. `model`: the
    registered model in MLflow that the returned model becomes a version of, as a name or a `Model`. `stack`: the
    stack the step runs in; empty for the active one. `previews`: whether MLflow shows outputs without a setting of
    their own; None follows `[zen] previews`. `runtime`: where the function runs, as an object or as its text; None
    follows `[zen] runtime`. `hints`: the resources that it needs. All other options are PythonOperator's. The return
    value in XCom is an `ArtifactRef` in its wire form, or a dict of them by output name.
    """

    custom_operator_name = "@ml_step"
    ui_color = "#e6f2ef"
    operator_extra_links = STEP_LINKS
    # What the trigger of an earlier process of this try said.
    event: Mapping[str, Any] | None = None
    template_fields: Sequence[str] = ("templates_dict", "op_args", "op_kwargs", "version")
    template_fields_renderers: ClassVar[dict[str, str]] = {"templates_dict": "json", "op_args": "py", "op_kwargs": "py"}

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        cache: bool | Cache | None = None,
        version: str = "",
        model: str | Model = "",
        stack: str = "",
        previews: bool | None = None,
        runtime: Runtime | str | None = None,
        hints: ResourceHints | None = None,
        **options: Any,
    ) -> None:
        options["op_kwargs"] = with_default_models(
            python_callable, options.get("op_args") or (), options.get("op_kwargs") or {}
        )
        options["multiple_outputs"] = Step(python_callable, "").outputs.is_multiple
        super().__init__(python_callable=python_callable, **options)
        self.cache: bool | Cache | None = check_option(cache, "cache")
        self.version: str = check_option(version, "version")
        self.model: str | Model = check_option(model, "model")
        self.stack: str = check_option(stack, "stack")
        self.previews: bool | None = check_option(previews, "previews")
        self.runtime: Runtime | str | None = check_option(runtime, "runtime")
        self.hints: ResourceHints | None = check_option(hints, "hints")
        for mark in self.step.outputs.checked.values():
            # Where the task is defined, and before it has computed anything.
            import_module("airflow_zen.validation.validators").as_validators(mark.checks)
        self.outlets = merge_assets(self.outlets, outlets_of(self.step.outputs.artifact_names, self.stack))
        self.inlets = merge_assets(self.inlets, inlets_of([self.op_args, self.op_kwargs], self.stack))
        self.links: dict[str, str] = {}
        self.refuse_skips_when_mapped()

    @classmethod
    def partial(cls, **options: Any) -> Any:
        """Give the options that all instances of a mapped step have in common; `expand` follows."""
        function = options.get("python_callable")
        action = options.get("on_failure", WARN)
        if action not in (FAIL, WARN) or (callable(function) and declared_outputs(function).skips):
            refuse_skips(str(options.get("task_id")))
        made = super().partial(**options)
        # Airflow warns of one that is never expanded.
        made._expand_called = True  # noqa: SLF001
        return PartialStepOperator(operator_class=cls, kwargs=made.kwargs, params=made.params)

    def refuse_skips_when_mapped(self) -> None:
        """Raise `StepDefinitionError` for a failure that skips tasks after one of several instances of a task."""
        is_instance = getattr(self, "_BaseOperator__from_mapped", False)
        if self.inherits_from_skipmixin and (is_instance or self.get_closest_mapped_task_group()):
            refuse_skips(self.task_id)

    @property
    def is_async(self) -> bool:
        """False: an `async def` is awaited inside the step, where timeouts and signals reach it."""
        return False

    @property
    def output(self) -> XComArg:
        """The result of the step; several outputs can be unpacked and indexed by name."""
        outputs = self.step.outputs
        return StepOutputs(self, outputs.names) if outputs.is_multiple else XComArg(self)

    @property
    def step(self) -> Step:
        """The function with its options."""
        policy = self.cache if isinstance(self.cache, Cache) else FOLLOW_SETTINGS
        return Step(self.python_callable, self.task_id, self.version, policy, self.cache is True, self.previews)

    @property
    def inherits_from_skipmixin(self) -> bool:
        """Whether Airflow looks for tasks that this one skipped: where a failed validation skips some."""
        return self.step.outputs.skips

    def update_relative(self, other: Any, upstream: bool = True, edge_modifier: Any = None) -> None:
        """Refuse that a task of any kind is mapped over one artifact of this step, when it is set downstream.

        Airflow would map over the fields of its ref.
        """
        super().update_relative(other, upstream, edge_modifier)
        if not upstream and not self.step.outputs.each:
            for name, value in _mapped_arguments(other):
                if isinstance(value, XComArg) and any(operator is self for operator, _ in value.iter_references()):
                    raise StepDefinitionError(_describe_mapping_over_one_artifact(self, other, name))

    def look_up_arguments(self, selectors: SelectorResolver) -> None:
        """Replace those of `op_kwargs` that are looked up before the step runs, such as a model by its alias."""

    def on_computed(self, run: StepRun, context: Any, *, stack_overridden: bool) -> None:
        """Look at the finished run before the events of its assets are decided."""

    def execute(self, context: Any) -> Any:
        """Run the step and return its outputs as refs, for XCom."""
        from airflow_zen.operators.execute import execute

        return execute(self, context)

    def resume(self, context: Any, event: Any = None) -> Any:
        """Go on with a deferred step, which has ended elsewhere; `event` is the trigger's."""
        self.event = event or {}
        return self.execute(context)


class PartialStepOperator(OperatorPartial):
    """The options of a mapped step, whose artifacts are upstream of it.

    Airflow looks for upstream tasks in those options only that are template fields.
    """

    def _expand(self, expand_input: Any, *, strict: bool) -> MappedOperator:
        mapped = super()._expand(expand_input, strict=strict)
        XComArg.apply_upstream_relationship(mapped, mapped.partial_kwargs)
        return mapped


def refuse_skips(task_id: str) -> None:
    """Raise the error of a mapped task whose failed checks are to skip tasks."""
    raise StepDefinitionError(
        f"Task {task_id!r} is mapped, where on_failure='skip' and a list of task ids are not supported: Airflow sets no task "
        "to skipped for one of several instances. Write on_failure='warn', and let the next step take the report: "
        "'if not report.passed: raise AirflowSkipException'."
    )


def _mapped_arguments(task: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a task, or the task group around it, is mapped over, by the names of its arguments."""
    group = task.get_closest_mapped_task_group()
    inputs = [task._get_specified_expand_input()] if isinstance(task, MappedOperator) else []  # noqa: SLF001
    inputs += [group._expand_input] if group else []  # noqa: SLF001
    for value in (found.value for found in inputs):
        if isinstance(value, dict):
            yield from value.items()
        else:
            yield from (("kwargs", item) for item in (value if isinstance(value, list | tuple) else [value]))


def _describe_mapping_over_one_artifact(step: MLStepOperator, task: Any, name: str) -> str:
    if step.multiple_outputs:
        remedy = (
            f"Map over a list of outputs, expand({name}=[first, second]), or let a step of its own return the list: "
            "'-> Annotated[list[T], Each]'."
        )
    else:
        remedy = (
            "Declare it '-> Annotated[list[T], Each]', or expand over a plain list, a plain @task that returns one, or a "
            "mapped step."
        )
    return (
        f"Task {task.task_id!r} cannot be expanded over {name}={step.task_id!r}: each output of that step is one "
        f"artifact, not a list of tasks' inputs. {remedy}"
    )


def check_option(value: Any, option: str) -> Any:
    """Return an option's value; raise `StepDefinitionError` for one that would serialize differently at each parse."""
    types = OPTION_TYPES[option]
    if not isinstance(value, types):
        names = " or ".join(kind.__name__ for kind in types)
        raise StepDefinitionError(f"@ml_step({option}=…) takes {names}, got {value!r}.")
    if option == "model" and value:
        # A name that selects a version is no name of a model.
        validate_model_name(value.name if isinstance(value, Model) else value)
    if isinstance(value, ResourceHints):
        import_module("airflow_zen.runtimes.memory_limits").memory_limits(value.memory)
    return value


class StepOutputs(PlainXComArg):
    """All outputs of a step, or one by its name or position."""

    def __init__(self, operator: Operator, names: tuple[str, ...]) -> None:
        super().__init__(operator)
        self.names = names

    def __iter__(self) -> Iterator[XComArg]:
        return iter([self[name] for name in self.names])

    def __len__(self) -> int:
        return len(self.names)

    def __getattr__(self, name: str) -> XComArg:
        """Return an output as a field of a declared `NamedTuple`."""
        # An unfinished copy has no names.
        if name not in vars(self).get("names", ()):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return self[name]

    def __getitem__(self, item: str | int) -> XComArg:
        if isinstance(item, int):
            return self[self.names[item]]
        if item not in self.names:
            raise StepDefinitionError(
                f"Step {self.operator.task_id!r} has no output {item!r}; it declares {list(self.names)}."
            )
        return StepOutput(self.operator, item)


class StepOutput(PlainXComArg):
    """One of several outputs of a step, which tasks can be mapped over where the step is mapped.

    Airflow maps over return values only, and refuses other keys of XCom. Those of a mapped step have the same number.
    """

    def iter_references(self) -> Iterator[tuple[Operator, str]]:
        """Yield the step under the key of its return value."""
        yield self.operator, BaseXCom.XCOM_RETURN_KEY

    def map(self, f: Callable[[Any], Any]) -> MapXComArg:
        """Return the outputs as `f` transforms them."""
        return XComArg.map(self, f)

    def zip(self, *others: XComArg, **options: Any) -> ZipXComArg:
        """Return tuples of the outputs and those of others."""
        return XComArg.zip(self, *others, **options)

    def concat(self, *others: XComArg) -> ConcatXComArg:
        """Return the outputs and those of others as one list."""
        return XComArg.concat(self, *others)
