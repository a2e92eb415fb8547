"""Promises of errors: what an error advises is written as it says, and runs."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import task, task_group
from airflow.sdk.definitions._internal.contextmanager import TaskGroupContext

import airflow_zen
from airflow_zen import Artifact, Cache, Each, MLStepOperator, Output, ml_step
from airflow_zen.errors import StepDefinitionError, ZenError
from tests.harness import run_dag
from tests.operators.pipelines import frame, pipeline, total

pytestmark = pytest.mark.usefixtures("root")


@ml_step
def fit(depth: int, rate: float = 1.0) -> float:
    return depth * rate


@ml_step
def size(table: pd.DataFrame) -> int:
    return len(table)


def values(build: Any, task_id: str) -> list[Any]:
    """Run a DAG; return the values of a task's instances."""
    run = run_dag(pipeline(build))
    assert set(run.states.values()) == {"success"}, [task.error for task in run.tasks]
    return [
        airflow_zen.load(run.xcom(each.task_id, map_index=each.map_index))
        for each in run.tasks
        if each.task_id == task_id
    ]


def refused(message: str, build: Any) -> None:
    with pytest.raises(ZenError, match=message):
        pipeline(build)


@ml_step
def grid() -> list[dict]:
    return [{"depth": 1}]


@ml_step
def marked_grid(rates: int) -> Annotated[list[dict], Each]:
    return [{"depth": depth, "rate": rates / 2} for depth in (1, 2)]


@ml_step
def one_setting(depth: int) -> dict:
    return {"depth": depth}


@task
def plain_grid() -> list[dict]:
    return [{"depth": 5}, {"depth": 6}]


def test_expand_kwargs_over_a_list_of_a_step():
    """`expand_kwargs` over a step's `list[dict]` is refused without `Each`, and every way out that is offered runs."""
    refused(r"one artifact.*Annotated\[list\[T\], Each\]", lambda: fit.expand_kwargs(grid()))
    refused("one artifact", lambda: fit.expand_kwargs([one_setting(1)]))
    assert values(lambda: fit.expand_kwargs(marked_grid(1)), "fit") == [0.5, 1.0]
    assert values(lambda: fit.expand_kwargs([{"depth": 3}, {"depth": 4}]), "fit") == [3.0, 4.0]
    assert values(lambda: fit.expand_kwargs(plain_grid()), "fit") == [5.0, 6.0]
    assert values(lambda: fit.expand_kwargs(one_setting.expand(depth=[7, 8])), "fit") == [7.0, 8.0]
    assert values(lambda: fit.partial(rate=2.0).expand_kwargs(one_setting.expand(depth=[7])), "fit") == [14.0]


def test_expand_kwargs_holds_values_to_their_types():
    """Keyword arguments that are mapped over are converted as any others, and a table among them is a table."""

    @ml_step
    def settings() -> Annotated[list[dict], Each]:
        return [{"table": pd.DataFrame({"a": [1, 2]}), "times": "3"}]

    @ml_step
    def count(table: pd.DataFrame, times: int) -> int:
        return len(table) * times

    assert values(lambda: count.expand_kwargs(settings()), "count") == [6]
    changed = settings.override(task_id="changed")
    double = lambda: count.expand_kwargs(changed().map(lambda ref: {**airflow_zen.load(ref), "times": 5}))  # noqa: E731
    assert values(double, "count") == [10]


def test_expand_over_one_artifact():
    """`expand` over one artifact is refused, and a marked list, a plain list, a plain task and a mapped step run."""

    @ml_step
    def tables() -> Annotated[list[pd.DataFrame], Each]:
        return [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1, 2]})]

    @task
    def depths() -> list[int]:
        return [3, 4]

    refused("one artifact", lambda: size.expand(table=frame(3)))
    assert values(lambda: size.expand(table=tables()), "size") == [1, 2]
    assert values(lambda: size.expand(table=[frame(1), frame.override(task_id="two")(2)]), "size") == [1, 2]
    assert values(lambda: fit.expand(depth=depths()), "fit") == [3.0, 4.0]
    assert values(lambda: size.expand(table=frame.expand(rows=[4, 5])), "size") == [4, 5]


@ml_step
def split(rows: int) -> Output(train=pd.DataFrame, test=pd.DataFrame):
    table = pd.DataFrame({"a": range(rows)})
    return table[1:], table[:1]


def test_expand_over_one_of_several_outputs():
    """`expand` over one or all outputs of a step is refused; a list of outputs, and a marked list of a step of its own, run."""

    @ml_step
    def parts(table: pd.DataFrame) -> Annotated[list[pd.DataFrame], Each]:
        return [table, table]

    message = r"expand\(table=\[first, second\]\).*step of its own.*Annotated\[list\[T\], Each\]"
    refused(message, lambda: size.expand(table=split(3)["train"]))
    refused(message, lambda: size.expand(table=split(3)))
    refused("several|each output", lambda: size.expand_kwargs(split(3)))
    assert values(lambda: size.expand(table=list(split(4))), "size") == [3, 1]
    assert values(lambda: size.expand(table=parts(split(4)["train"])), "size") == [3, 3]


def test_map_over_the_outputs_of_a_mapped_step():
    """A mapped step's outputs are lists of one length: each is mapped over, transformed, joined, and unpacked as arguments."""

    @ml_step
    def rows(train: pd.DataFrame, test: pd.DataFrame) -> str:
        return f"{len(train)}+{len(test)}"

    def over(build: Any) -> Any:
        return lambda: build(*split.expand(rows=[3, 4]))

    assert values(over(lambda train, test: size.expand(table=train)), "size") == [2, 3]
    assert values(over(lambda train, test: size.expand(table=test.concat(train))), "size") == [1, 1, 2, 3]
    assert values(over(lambda train, test: total.expand(tables=train.zip(test))), "total") == [3, 4]
    assert values(over(lambda train, test: total.expand(tables=train.map(lambda ref: [ref, ref]))), "total") == [4, 6]
    assert values(over(lambda train, test: total(train)), "total") == [5]
    assert values(lambda: rows.expand_kwargs(split.expand(rows=[3, 4])), "rows") == ["2+1", "3+1"]


def test_plain_tasks_and_groups_over_one_artifact():
    """A plain task, an operator and a task group that are expanded over one artifact are refused, and over a list they run."""

    @task
    def shape(table: dict) -> str:
        return table["shape"]

    @task_group
    def report(table: Any) -> None:
        size(table)

    refused("Task 'shape' cannot be expanded over table='frame'", lambda: shape.expand(table=frame(3)))
    refused(
        "over op_args='frame'",
        lambda: PythonOperator.partial(task_id="p", python_callable=len).expand(op_args=frame(3)),
    )
    refused("over table='frame'", lambda: report.expand(table=frame(3)))
    # Airflow leaves the group open when what it is mapped over raises an error.
    TaskGroupContext.pop()
    refused("over table='split'", lambda: shape.expand(table=split(3)["test"]))
    run = run_dag(pipeline(lambda: shape.expand(table=[frame(1), *split(3)])))
    assert [run.xcom("shape", map_index=index) for index in range(3)] == [
        "1 row × 1 column",
        "2 rows × 1 column",
        "1 row × 1 column",
    ]
    assert set(pipeline(lambda: report.expand(table=[frame(1), frame.override(task_id="two")(2)])).task_ids) == {
        "frame",
        "two",
        "report.size",
    }


def test_expand_kwargs_over_what_is_no_dict():
    """Elements of a marked list that are no dicts fail the mapped task with the way out, which runs."""

    @ml_step
    def depths() -> Annotated[list[int], Each]:
        return [1, 2]

    run = run_dag(pipeline(lambda: fit.expand_kwargs(depths())))
    assert run.states["fit[0]"] == "failed"
    assert re.search(r"'d/depths\[0\]' is builtins.int.*expand\(name=…\)", str(run.task("fit", 0).error))
    assert values(lambda: fit.expand(depth=depths()), "fit") == [1.0, 2.0]


def test_expand_over_one_version():
    """`expand` over a version is refused; passed with `partial`, or in a list, it is read."""

    @ml_step
    def make() -> Annotated[int, Artifact("depth")]:
        return 2

    run_dag(pipeline(make))
    newest = Artifact("depth").latest()
    refused("Pass it with partial", lambda: fit.expand(depth=newest))
    assert values(lambda: fit.partial(depth=newest).expand(rate=[1.0, 2.0]), "fit") == [2.0, 4.0]
    assert values(lambda: fit.expand(depth=[newest]), "fit") == [2.0]


def test_names_of_the_context():
    """A parameter with a name of Airflow's context is refused where it cannot work, and its new name works."""

    def train(params: dict = {"depth": 1}) -> int: ...  # noqa: B006

    with pytest.raises(StepDefinitionError, match="Rename it, for example to 'hyper_params'"):
        ml_step(train)

    @ml_step
    def renamed(hyper_params: dict = {"depth": 1}) -> int:  # noqa: B006
        return hyper_params["depth"]

    assert values(renamed, "renamed") == [1]
    assert values(lambda: renamed.expand(hyper_params=[{"depth": 2}]), "renamed") == [2]
    assert values(lambda: renamed.partial().expand_kwargs([{"hyper_params": {"depth": 3}}]), "renamed") == [3]


def test_an_option_and_a_parameter_of_one_name():
    """A parameter that is mapped over and named as an option in use is refused, and its new name works."""

    @ml_step(version="2")
    def evaluate(version: int) -> int: ...

    refused("Rename the parameter", lambda: evaluate.expand(version=[1]))

    @ml_step(version="2")
    def evaluate_data(data_version: int) -> int:
        return data_version

    assert values(lambda: evaluate_data.expand(data_version=[1, 2]), "evaluate_data") == [1, 2]


def test_outputs_inside_a_record():
    """An output inside a dataclass is refused; as an argument of its own, in a list, a tuple or a dict it is passed."""

    @dataclass
    class Config:
        table: object

    @ml_step
    def rows(holder: Any) -> int:
        return len(
            holder["a"] if isinstance(holder, dict) else holder if isinstance(holder, pd.DataFrame) else holder[0]
        )

    refused(r"Config\.table", lambda: rows(Config(frame(1))))
    for wrap in (lambda table: table, lambda table: [table], lambda table: (table,), lambda table: {"a": table}):
        assert values(lambda wrap=wrap: rows(wrap(frame(3))), "rows") == [3]


def test_stacked_decorators():
    """A step on another task decorator is refused; the other on a function of its own runs."""

    def clean(rows: int) -> int:
        return rows + 1

    with pytest.raises(StepDefinitionError, match="Leave the other out, or give it to a function of its own"):
        ml_step(task(clean))
    assert values(lambda: frame(task(clean)(2)), "frame")[0].shape == (3, 1)
    assert values(lambda: ml_step(clean)(2), "clean") == [3]


def test_multiple_outputs():
    """`multiple_outputs` is refused, and the annotation that is named instead makes the outputs."""
    with pytest.raises(StepDefinitionError, match=r"'-> Output\(train=…, test=…\)'"):
        ml_step(multiple_outputs=True)(fit.function)

    @ml_step
    def split() -> Output(train=int, test=int):
        return 1, 2

    assert values(lambda: fit(split()["test"]), "fit") == [2.0]


def test_each_is_the_only_output():
    """A marked list among outputs, named, or around what is no list is refused; in a step of its own, unnamed, it runs."""
    cases = [
        (Output(tables=Annotated[list[int], Each], total=int), "a step of its own"),
        (Annotated[list[int], Each] | None, "an empty list instead of None"),
        (Annotated[list[int], Each, Artifact("tables")], "Leave the name out"),
        (Annotated[dict, Each], r"Declare Annotated\[list\[T\], Each\], and return a list"),
    ]
    for annotation, message in cases:

        def step(): ...

        step.__annotations__["return"] = annotation
        with pytest.raises(StepDefinitionError, match=message):
            ml_step(step)

    @ml_step
    def nothing() -> Annotated[list[dict], Each]:
        return []

    run = run_dag(pipeline(lambda: fit.expand_kwargs(nothing())))
    assert run.states == {"nothing": "success"}


def test_an_artifact_mark_around_elements():
    """A mark around the elements of a list is refused when the step runs; around the whole, or on a marked list, it runs."""

    @ml_step
    def inner() -> list[Annotated[int, Artifact(previews=False)]]:
        return [1]

    @ml_step
    def whole() -> Annotated[list[int], Artifact(previews=False)]:
        return [1]

    @ml_step
    def each() -> Annotated[list[int], Each, Artifact(previews=False)]:
        return [1]

    run = run_dag(pipeline(inner))
    assert "Put it around the whole" in str(run.tasks[0].error)
    assert run_dag(pipeline(lambda: (whole(), each()))).states == {"whole": "success", "each": "success"}


def test_outputs_have_different_names():
    """Outputs of which one has no name, or that share an artifact, are refused; with names of their own they are outputs."""
    for annotation, message in (
        (tuple[Annotated[int, "first"], int], "different names"),
        (Output(a=(x := Annotated[int, Artifact("x")]), b=x), "cannot be one artifact, .* Rename one"),
        (Output(return_value=int), "Rename it"),
    ):

        def step(): ...

        step.__annotations__["return"] = annotation
        with pytest.raises(StepDefinitionError, match=message):
            ml_step(step)

    @ml_step
    def named() -> tuple[Annotated[int, "first"], Annotated[int, "second", Artifact("name")]]:
        return 1, 2

    assert values(lambda: fit(named()[1]), "fit") == [2.0]


def test_a_result_of_another_shape():
    """A result that does not fit the outputs fails the step; the tuple and the dict that the error names are stored."""

    def result(value: Any) -> Any:
        @ml_step
        def step() -> Output(a=int, b=int):
            return value

        return run_dag(pipeline(step)).tasks[0]

    for wrong in (1, (1, 2, 3), {"a": 1}):
        assert "expected the outputs ['a', 'b']" in str(result(wrong).error)
    assert [result(right).state for right in ((1, 2), {"a": 1, "b": 2})] == ["success", "success"]


def test_an_artifact_of_another_type():
    """A type that an artifact has no view of is refused; the type that it holds, and no type, are loaded."""

    @ml_step
    def wrong(table: list) -> int: ...

    @ml_step
    def untyped(table) -> int:
        return len(table)

    run = run_dag(pipeline(lambda: wrong(frame(3))))
    assert "Ask for what it holds, or for no type" in str(run.task("wrong").error)
    assert values(lambda: untyped(frame(3)), "untyped") == values(lambda: size(frame(3)), "size") == [3]


def test_options_of_the_cache(tmp_path):
    """Options that cannot be are refused with what they take, and that is taken."""
    for options, message in (
        ({"ttl": 0}, "above zero"),
        ({"files": ("/etc/hosts",)}, "relative to the file"),
        ({"key": 3}, "a function of the step's arguments"),
        ({"scope": "step"}, "'shared' or 'dag'"),
        ({"ignore": 3}, "names in a tuple"),
    ):
        with pytest.raises(StepDefinitionError, match=message):
            Cache(**options)
    policy = Cache(ttl=60, files=("pipelines.py",), key=lambda **given: given["depth"], scope="dag", ignore=("rate",))
    assert values(lambda: fit.override(cache=policy)(2), "fit") == [2.0]
    with pytest.raises(StepDefinitionError, match="Options go by name"):
        ml_step(False)
    with pytest.raises(StepDefinitionError, match=r"takes bool or NoneType or Cache, got 'no'"):
        ml_step(cache="no")(fit.function)
    classic = {"python_callable": fit.function, "op_args": [2], "cache": False}
    assert values(lambda: MLStepOperator(task_id="fit", **classic), "fit") == [2.0]
