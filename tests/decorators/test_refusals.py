"""Promises of what `@ml_step` refuses while a DAG file is parsed."""

from dataclasses import dataclass
from functools import partial

import pytest
from airflow.sdk import task

from airflow_zen import Cache, Output, ml_step
from airflow_zen.errors import StepDefinitionError
from tests.decorators.steps import double, halves, in_dag


def test_unknown_output_is_named():
    """Asking for an output that is not declared says which there are."""
    with pytest.raises(StepDefinitionError, match=r"no output 'middle'.*left.*right"):
        in_dag(lambda: halves(1)["middle"])


@pytest.mark.parametrize("outer", [task, task.virtualenv, lambda _: double])
def test_stacking_on_a_task_decorator_is_refused(outer):
    """Two task decorators on one function are refused: Airflow would keep only one of them."""

    def step(): ...

    with pytest.raises(StepDefinitionError, match="cannot be stacked"):
        ml_step(outer(step))


def test_context_name_with_default_is_refused():
    """An argument named as Airflow's context with a default of its own is refused, with another name offered."""

    def train(params: dict = {}): ...  # noqa: B006

    with pytest.raises(StepDefinitionError, match=r"'params'.*Rename it.*'hyper_params'"):
        ml_step(train)


def test_expanding_over_a_context_name_is_refused():
    """Mapping over an argument named as Airflow's context is refused, with another name offered."""

    @ml_step
    def train(params): ...

    with pytest.raises(StepDefinitionError, match=r"'params'.*Rename"):
        in_dag(lambda: train.expand(params=[{}]))
    with pytest.raises(StepDefinitionError, match=r"'params'.*Rename"):
        in_dag(lambda: train.partial(params={}))


def test_expanding_over_one_artifact_is_refused():
    """Mapping over a single artifact is refused at parse: Airflow would map the fields of its ref."""
    with pytest.raises(StepDefinitionError, match="one artifact"):
        in_dag(lambda: double.expand(x=double(1)))


@pytest.mark.parametrize("option", [{"cache": "yes"}, {"cache": object()}, {"version": 3}, {"model": object}])
def test_option_values_are_checked(option):
    """An option with a value of a wrong type is refused where it is written."""
    with pytest.raises(StepDefinitionError, match=next(iter(option))):
        in_dag(lambda: ml_step(**option)(double.function)(1))


def test_multiple_outputs_names_the_remedy():
    """`multiple_outputs` is refused: the annotation declares outputs."""
    with pytest.raises(StepDefinitionError, match="return annotation"):
        ml_step(multiple_outputs=True)(double.function)


def test_not_a_function():
    """Decorating something other than a function is refused with what to write."""
    with pytest.raises(StepDefinitionError, match="Options go by name"):
        ml_step("train")


def test_map_over_one_artifact_is_refused():
    """`.map` over a single artifact is refused like the artifact itself."""
    with pytest.raises(StepDefinitionError, match="one artifact"):
        in_dag(lambda: double.expand(x=double(1).map(lambda value: value)))


def test_outputs_inside_records_are_refused():
    """The output of a task inside a dataclass is refused: Airflow would not see the dependency."""

    @dataclass
    class Config:
        x: object

    with pytest.raises(StepDefinitionError, match=r"Config\.x"):
        in_dag(lambda: double(Config(double(1))))


@pytest.mark.parametrize("name", ["return_value", "_link_MlflowRunLink"])
def test_reserved_output_names_are_refused(name):
    """An output cannot have the name of an XCom that Airflow reserves."""

    def step() -> Output(**{name: int, "other": int}): ...

    with pytest.raises(StepDefinitionError, match=name):
        ml_step(step)


def test_option_values_are_checked_where_they_are_written():
    """An invalid value of an option fails at the decorator, at `override`, and before mapping."""
    for write in (lambda: ml_step(cache="no")(double.function), lambda: double.override(cache="no")):
        with pytest.raises(StepDefinitionError, match="cache"):
            write()


def test_an_unknown_parameter_cannot_be_ignored():
    """An unknown name in `Cache(ignore=…)` fails at the decorator; `**options` accept any name."""
    with pytest.raises(StepDefinitionError, match=r"names 'verbos', which is not one of its parameters"):
        double.override(cache=Cache(ignore=("verbos",)))

    def open_ended(x: int, **options) -> int: ...

    assert ml_step(cache=Cache(ignore=("verbos",)))(open_ended)


def test_a_function_needs_a_name():
    """A partial is refused, because it has no name for a task; a function that calls the same is a step."""
    with pytest.raises(StepDefinitionError, match=r"name of its own.*Write a def\."):
        ml_step(partial(double.function, 1))

    def double_one() -> int:
        return double.function(1)

    assert in_dag(ml_step(double_one)).task_ids == ["double_one"]
