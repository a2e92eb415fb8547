"""`MLStepOperator`: a typed function as an Airflow task, with artifacts, cache and lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import XComArg
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from airflow_zen.errors import StepDefinitionError
from airflow_zen.operators.assets import inlets_of, merge_assets, outlets_of
from airflow_zen.operators.links import STEP_LINKS
from airflow_zen.steps.step import FOLLOW_SETTINGS, Cache, Step

if TYPE_CHECKING:
    from airflow.sdk.types import Operator


OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "cache": (bool, type(None), Cache),
    "version": (str,),
    "model": (str,),
    "stack": (str,),
    "previews": (bool, type(None)),
}


class MLStepOperator(PythonOperator):
    """Run a typed function as a step.

    `cache`: False runs the function each time; True also reuses a step that returns nothing; a `Cache` says what the
    cache key is made of; None follows `[zen] cache`. `version`: your own addition to the cache key. `model`: the
    registered model in MLflow that the returned model becomes a version of. `stack`: the stack the step runs in; empty
    for the active one. `previews`: whether MLflow shows outputs without a setting of their own; None follows
    `[zen] previews`. All other options are PythonOperator's. The return value in XCom is an `ArtifactRef` in its wire
    form, or a dict of them by output name.
    """

    custom_operator_name = "@ml_step"
    ui_color = "#e6f2ef"
    operator_extra_links = STEP_LINKS
    template_fields: Sequence[str] = ("templates_dict", "op_args", "op_kwargs", "version")
    template_fields_renderers: ClassVar[dict[str, str]] = {"templates_dict": "json", "op_args": "py", "op_kwargs": "py"}

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        cache: bool | Cache | None = None,
        version: str = "",
        model: str = "",
        stack: str = "",
        previews: bool | None = None,
        **options: Any,
    ) -> None:
        options["multiple_outputs"] = Step(python_callable, "").outputs.is_multiple
        super().__init__(python_callable=python_callable, **options)
        self.cache: bool | Cache | None = check_option(cache, "cache")
        self.version: str = check_option(version, "version")
        self.model: str = check_option(model, "model")
        self.stack: str = check_option(stack, "stack")
        self.previews: bool | None = check_option(previews, "previews")
        self.outlets = merge_assets(self.outlets, outlets_of(self.step.outputs.artifact_names, self.stack))
        self.inlets = merge_assets(self.inlets, inlets_of([self.op_args, self.op_kwargs], self.stack))
        self.links: dict[str, str] = {}

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

    def execute(self, context: Any) -> Any:
        """Run the step and return its outputs as refs, for XCom."""
        from airflow_zen.operators.execute import execute

        return execute(self, context)


def check_option(value: Any, option: str) -> Any:
    """Return an option's value; raise `StepDefinitionError` for one that would serialize differently at each parse."""
    types = OPTION_TYPES[option]
    if not isinstance(value, types):
        names = " or ".join(kind.__name__ for kind in types)
        raise StepDefinitionError(f"@ml_step({option}=…) takes {names}, got {value!r}.")
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
        return super().__getitem__(item)
