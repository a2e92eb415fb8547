"""`fused`: a group of steps that runs as one Airflow task, in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, XComArg
from airflow.sdk.definitions._internal.contextmanager import DagContext, TaskGroupContext
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from msgspec.structs import replace

from airflow_zen.errors import StepDefinitionError
from airflow_zen.operators.assets import merge_assets
from airflow_zen.operators.links import ArtifactsLink, add_links, page_link
from airflow_zen.operators.ml_step import OPTION_TYPES, MLStepOperator, StepOutputs, check_option
from airflow_zen.operators.substeps import Substep, SubstepInstance, substep_context

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRun

# The options that a step of a group has for itself; all others are of the task.
_OF_A_STEP = {"task_id", "owner", "doc", "doc_md", "doc_json", "doc_yaml", "doc_rst", "templates_dict", "op_kwargs"}
_OF_A_STEP |= OPTION_TYPES.keys() - {"stack"}

_current: ContextVar[FusedOperator | None] = ContextVar("airflow_zen_fused", default=None)


class FusedOperator(BaseOperator):
    """Run several steps in their order, in one process. A step's outputs are in XCom under its name.

    `stack`: the stack of all its steps. All other options are BaseOperator's.
    """

    ui_color = MLStepOperator.ui_color
    operator_extra_links = (ArtifactsLink(),)

    def __init__(self, *, stack: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.stack: str = check_option(stack, "stack")
        self.steps: dict[str, MLStepOperator] = {}
        self.links: dict[str, str] = {}
        self.options = {"stack": stack, **options}

    @classmethod
    def get_serialized_fields(cls) -> frozenset[str]:
        """Return what Airflow keeps of it, with the names of its steps, which the pages show while it runs."""
        fields: frozenset[str] = super().get_serialized_fields()  # type: ignore[no-untyped-call]
        return fields | {"step_names"}

    @property
    def step_names(self) -> list[str]:
        """The names of its steps, in their order."""
        return [*self.steps]

    def name_of_next(self, name: str) -> str:
        """Return the name of another step, with a number if the group has one of this name."""
        taken = sum(other.rpartition("__")[0] == name or other == name for other in self.steps)
        return f"{name}__{taken}" if taken else name

    def check_options(self, step: str, options: Mapping[str, Any]) -> None:
        """Raise `StepDefinitionError` for an option of a step that only its task can have."""
        for option, value in options.items():
            if option not in _OF_A_STEP and (option not in self.options or self.options[option] != value):
                raise StepDefinitionError(
                    f"Step {step!r} has the option {option}={value!r}, and is in the fused group {self.task_id!r}, which is "
                    f"one task for all its steps. Give it to the group, fused({self.task_id!r}, {option}=…), or call the step "
                    "outside of the group."
                )

    def refuse_mapped(self, step: str) -> None:
        """Raise `StepDefinitionError` for a mapped step."""
        raise StepDefinitionError(
            f"Step {step!r} is mapped, and is in the fused group {self.task_id!r}, which is one task. Map it outside of the "
            "group; expand(…, batch=50) runs 50 elements in one task."
        )

    def add(self, name: str, operator: MLStepOperator) -> XComArg:
        """Add a step, and return its output."""
        if operator.inherits_from_skipmixin:
            raise StepDefinitionError(
                f"Step {name!r} of the fused group {self.task_id!r} skips tasks when a check fails, which a part of a task "
                "cannot do. Write on_failure='fail' or 'warn', or call the step outside of the group."
            )
        operator._dag, operator.retries, operator.do_xcom_push = self.dag, self.retries, False  # noqa: SLF001
        operator.upstream_task_ids = self.upstream_task_ids
        self.steps[name] = operator
        for upstream, _ in XComArg.iter_xcom_references(
            [getattr(operator, field) for field in operator.template_fields]
        ):
            if upstream is not self:
                self.set_upstream(upstream)
        self.outlets = merge_assets(self.outlets, operator.outlets)
        self.inlets = merge_assets(self.inlets, operator.inlets)
        names = operator.step.outputs.names
        return FusedOutputs(self, name, names) if operator.step.outputs.is_multiple else FusedOutput(self, name)

    def _set_relatives(self, task_or_task_list: Any, upstream: bool = False, edge_modifier: Any = None) -> None:
        """Refuse an order among the steps of the group."""
        given = task_or_task_list if isinstance(task_or_task_list, Sequence) else [task_or_task_list]
        if any(self in (each.leaves if upstream else each.roots) for each in given):
            raise StepDefinitionError(
                f"The steps of the fused group {self.task_id!r} run in the order in which they are called; '>>' sets none "
                "among them. Leave it out."
            )
        super()._set_relatives(task_or_task_list, upstream, edge_modifier)

    def execute(self, context: Any) -> None:
        """Run all steps; the error of one names it."""
        from airflow_zen.operators.execute import execute_in_stack, open_task_stack
        from airflow_zen.stack import HeldValues

        add_links(self, page_link(context["ti"]))
        settings, stack = open_task_stack(self, context)
        stack = replace(stack, held=HeldValues())
        runs: list[StepRun] = []
        outlets: list[Any] = []
        for name, operator, own, results in self.parts(context):
            try:
                operator.render_template_fields(own)
                result, run = execute_in_stack(operator, own, settings, stack, Substep())
            except Exception as error:
                error.add_note(f"It is the error of step {name!r} in the fused group {self.task_id!r}.")
                raise
            runs.append(run)
            outlets += [outlet for outlet in operator.outlets if outlet not in outlets]
            self._push(name, result, results, context["ti"])
        self.outlets = outlets
        self._set_label(context, runs)

    def parts(self, context: Any) -> Iterator[tuple[str, MLStepOperator, Any, dict[str, Any]]]:
        """Yield the steps, to be rendered: name, operator, context, and the outputs so far by their keys in XCom."""
        results: dict[str, Any] = {}
        for name, step in self.steps.items():
            operator = step.prepare_for_execution()
            operator.links, operator.outlets = {}, list(step.outlets)
            instance = SubstepInstance(context["ti"], step.task_id, context["ti"].map_index, results)
            yield name, operator, substep_context(context, operator, instance), results

    def _push(self, name: str, result: Any, results: dict[str, Any], ti: Any) -> None:
        """Push the outputs of a step for the tasks after the group, and keep them for the steps in it."""
        own = output_keys(name, result, multiple=self.steps[name].step.outputs.is_multiple)
        results |= own
        for key, value in own.items():
            ti.xcom_push(key=key, value=value)

    def _set_label(self, context: Any, runs: list[StepRun]) -> None:
        from airflow_zen.operators.execute import set_label

        reused = sum(run.is_hit for run in runs)
        if context.get("map_index_template") is None:
            set_label(self, context, f"{len(runs) - reused} computed, {reused} cached")


class FusedOutput(PlainXComArg):
    """The output of a step in a fused group: in memory for the steps after it, in XCom for the tasks after the group."""

    def resolve(self, context: Any) -> Any:
        """Return it in its XCom form."""
        results = getattr(context["ti"], "results", None) or {}
        is_known = self.key in results and context["task"].task_id.startswith(f"{self.operator.task_id}.")
        return results[self.key] if is_known else super().resolve(context)


class FusedOutputs(StepOutputs):
    """The outputs of a step in a fused group, by name or position."""

    def __init__(self, operator: FusedOperator, step: str, names: tuple[str, ...]) -> None:
        super().__init__(operator, names)
        self.key = step

    def __getitem__(self, item: str | int) -> XComArg:
        name = self.names[item] if isinstance(item, int) else item
        super().__getitem__(name)
        return FusedOutput(self.operator, f"{self.key}.{name}")

    def resolve(self, context: Any) -> Any:
        """Return all of them in their XCom form."""
        return FusedOutput(self.operator, self.key).resolve(context)


def output_keys(name: str, result: Any, *, multiple: bool) -> dict[str, Any]:
    """Return the outputs of a step of a group by their keys in XCom: `clean`, and `clean.train` of several."""
    return {name: result, **({f"{name}.{output}": held for output, held in result.items()} if multiple else {})}


def current_group() -> FusedOperator | None:
    """Return the group that is being defined."""
    return _current.get()


@contextmanager
def fused(group_id: str, **options: Any) -> Iterator[FusedOperator]:
    """Run the steps that are called in the block as one Airflow task, in one process, in the order of their calls.

    Each step keeps its record, its cache entry, its run in MLflow and its artifacts. `options` are those of the task:
    `retries`, `queue`, `stack` and so on. Raises `StepDefinitionError` for what cannot be fused: mapped steps, tasks that
    are not `@ml_step`, and steps with options of a task of their own.
    """
    if _current.get() is not None:
        raise StepDefinitionError(f"The fused group {group_id!r} is in another one. Call its steps there.")
    group = FusedOperator(task_id=group_id, **options)
    before, token = set(group.dag.task_dict), _current.set(group)
    try:
        yield group
    finally:
        _current.reset(token)
    if others := sorted(set(group.dag.task_dict) - before):
        raise StepDefinitionError(
            f"Task {others[0]!r} is defined in the fused group {group_id!r}, where only steps of @ml_step can be, called as "
            "functions. Define it before or after the block."
        )
    if not group.steps:
        raise StepDefinitionError(f"The fused group {group_id!r} has no steps. Call steps of @ml_step in its block.")


@contextmanager
def outside_of_dag() -> Iterator[None]:
    """Let operators of the block belong to no DAG and no task group."""
    DagContext.push(None)  # type: ignore[arg-type]
    TaskGroupContext.push(None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        TaskGroupContext.pop()
        DagContext.pop()
