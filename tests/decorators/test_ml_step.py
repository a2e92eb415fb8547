"""Promises of `@ml_step` while a DAG file is parsed."""

import os
import runpy
import subprocess
import sys
from datetime import timedelta
from typing import Annotated, NamedTuple

import pytest
from airflow.sdk import task, task_group

from airflow_zen import MLStepOperator, Output, ml_step
from airflow_zen.errors import StepDefinitionError
from tests.decorators.steps import double, halves, in_dag


class Halves(NamedTuple):
    left: int
    right: int


def test_outside_a_dag_it_is_the_function():
    """Outside of a DAG a step is its plain function."""
    assert double(4) == 8
    assert halves(5) == (2, 3)


_LOGGING_CALLS = """
import asyncio
from collections.abc import Iterator
import mlflow
from airflow_zen import ml_step

@ml_step
def judge(x: float) -> float:
    mlflow.log_metric("auc", x)
    mlflow.log_text("fine", "notes.txt")
    return x

@ml_step
def judge_twice() -> float:
    found = judge(0.5)
    mlflow.log_metric("twice", found)
    return found

@ml_step
async def fetch(x: float) -> float:
    await asyncio.sleep(x)
    mlflow.log_metric("auc", x)
    return x

async def fetch_both():
    return await asyncio.gather(fetch(0.0), fetch(0.1))

@ml_step
def count(x: int) -> Iterator[int]:
    for n in range(x):
        mlflow.log_metric("auc", n)
        yield n

def assert_nothing_is_left():
    assert mlflow.active_run() is None
    assert not mlflow.is_tracking_uri_set()

assert judge(0.5) == 0.5 and judge_twice() == 0.5
assert_nothing_is_left()
assert asyncio.run(fetch_both()) == [0.0, 0.1]
assert_nothing_is_left()
assert list(zip(count(2), count(3))) == [(0, 0), (1, 1)]
assert_nothing_is_left()
unfinished = count(2)
next(unfinished)
del unfinished
assert_nothing_is_left()
"""


def test_plain_calls_leave_the_working_directory_alone(tmp_path):
    """Functions, coroutines and generators that log to MLflow write no `mlflow.db` or `mlruns` when they are called plainly."""
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "home")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    (tmp_path / "project").mkdir()
    command = [sys.executable, "-c", _LOGGING_CALLS]
    done = subprocess.run(command, cwd=tmp_path / "project", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "project").iterdir()) == []


def test_bare_and_with_options():
    """`@ml_step`, `@ml_step()` and `@ml_step(option=…)` all make a step of the function's name."""
    with_parentheses = ml_step()(double.function)
    with_option = ml_step(cache=False, retries=3)(double.function)
    built = in_dag(lambda: (double(1), with_parentheses(2), with_option(3)))
    assert sorted(built.task_ids) == ["double", "double__1", "double__2"]
    assert built.get_task("double__2").retries == 3
    assert built.get_task("double__2").cache is False
    assert built.get_task("double").doc_md == "Twice as much."


def test_previews_reach_the_step():
    """`previews` of a decorator, or of `default_args`, is the step's, mapped or not; left out it is the deployment's."""
    quiet = ml_step(previews=False)(double.function)
    built = in_dag(lambda: (quiet(1), quiet.override(task_id="mapped").expand(x=[1])))
    assert built.get_task("double").step.previews is False
    assert built.get_task("mapped").unmap({"op_kwargs": {"x": 1}}).step.previews is False
    assert in_dag(lambda: double(1), default_args={"previews": True}).get_task("double").step.previews is True
    assert in_dag(lambda: double(1)).get_task("double").step.previews is None
    with pytest.raises(StepDefinitionError, match=r"@ml_step\(previews=…\) takes bool or NoneType, got 'no'"):
        in_dag(lambda: ml_step(previews="no")(double.function)(1))


def test_task_ml_step_is_the_same():
    """`@task.ml_step` and `@ml_step` are one decorator."""
    assert task.ml_step is ml_step


def test_classic_operator():
    """`MLStepOperator` is the classic form, with `.output` as its XComArg."""

    def build():
        first = MLStepOperator(task_id="first", python_callable=double.function, op_args=[1])
        MLStepOperator(task_id="second", python_callable=double.function, op_kwargs={"x": first.output})

    built = in_dag(build)
    assert built.get_task("second").upstream_task_ids == {"first"}


def test_outputs_unpack_index_and_pass_on():
    """Several outputs can be unpacked, indexed by name or place, and passed on one by one."""

    def build():
        left, right = halves(5)
        whole = halves(right)
        double(left)
        double(whole["right"])
        double(whole[0])

    built = in_dag(build)
    passed = {t: built.get_task(t).op_args[0].key for t in ("double", "double__1", "double__2")}
    assert passed == {"double": "left", "double__1": "right", "double__2": "left"}
    assert built.get_task("halves__1").op_args[0].key == "right"


@pytest.mark.parametrize(
    "annotation",
    [Output(left=int, right=int), tuple[Annotated[int, "left"], Annotated[int, "right"]], Halves],
)
def test_every_declaration_unpacks(annotation):
    """Each way to declare several outputs can be unpacked in the DAG."""

    def step(x): ...

    step.__annotations__ = {"return": annotation}
    keys = []
    in_dag(lambda: keys.extend(argument.key for argument in ml_step(step)(1)))
    assert keys == ["left", "right"]


def test_fields_of_a_named_tuple_are_attributes():
    """Outputs that a `NamedTuple` declares are attributes of the result, mapped or not; another name is an error."""

    @ml_step
    def split(x: int) -> Halves:
        return Halves(x // 2, x - x // 2)

    def build():
        double(split(5).left)
        double(split.expand(x=[1, 2]).right)
        with pytest.raises(AttributeError, match="no attribute 'middle'"):
            _ = split(5).middle

    built = in_dag(build)
    assert built.get_task("double").op_args[0].key == "left"
    assert built.get_task("double__1").op_args[0].key == "right"


def test_a_dict_is_one_output():
    """`-> dict[str, int]` is one artifact, not one XCom for each key."""

    @ml_step
    def metrics() -> dict[str, float]:
        return {"auc": 0.5}

    built = in_dag(metrics)
    assert built.get_task("metrics").multiple_outputs is False


def test_operator_options_pass_through():
    """Every option of Airflow's operators reaches the task."""

    def notify(context): ...

    options = {
        "retries": 2,
        "retry_delay": timedelta(seconds=7),
        "pool": "gpu",
        "queue": "gpu",
        "executor": "LocalExecutor",
        "trigger_rule": "all_done",
        "on_failure_callback": notify,
        "executor_config": {"pod_override": 1},
        "execution_timeout": timedelta(hours=1),
        "priority_weight": 3,
        "task_id": "renamed",
    }
    built = in_dag(lambda: double.override(**options)(1)).get_task("renamed")
    for name in options.keys() - {"on_failure_callback"}:
        assert getattr(built, name) == options[name]
    assert list(built.on_failure_callback) == [notify]


def test_default_args_reach_steps():
    """A DAG's `default_args` set options of ours as they set Airflow's, and a step's own win."""
    own = ml_step(cache=True)(double.function)
    built = in_dag(lambda: (double(1), own(2)), default_args={"cache": False, "retries": 5})
    assert (built.get_task("double").cache, built.get_task("double").retries) == (False, 5)
    assert built.get_task("double__1").cache is True


def test_override_partial_expand_and_groups():
    """Steps are overridden, mapped and grouped as any task is."""

    @ml_step
    def scale(x: int, by: int) -> int:
        return x * by

    def build():
        @task_group
        def group():
            scale.override(task_id="scaled").partial(by=3).expand(x=[1, 2])
            scale.expand_kwargs([{"x": 1, "by": 2}])

        group()

    built = in_dag(build)
    assert built.get_task("group.scaled").is_mapped
    assert built.get_task("group.scale").is_mapped


def test_expanding_over_plain_and_mapped_tasks_is_allowed():
    """A plain task's list and a mapped step can be expanded over."""

    @task
    def numbers():
        return [1, 2]

    built = in_dag(lambda: double.expand(x=double.expand(x=numbers())))
    assert built.get_task("double__1").upstream_task_ids == {"double"}


def test_unevaluable_annotations_are_accepted():
    """Annotations of names that exist for type checkers only are not evaluated at parse."""
    names = {"ml_step": ml_step}
    exec("from __future__ import annotations\n@ml_step\ndef step(x: nowhere.Frame) -> nowhere.Frame: ...", names)
    built = in_dag(lambda: names["step"](1))
    assert built.task_ids == ["step"]


def test_mapped_and_classic_steps_name_their_outputs():
    """The outputs of a mapped step and of `MLStepOperator` unpack, and an unknown name is refused."""

    def build():
        left, right = halves.expand(x=[1, 2])
        double(left)
        double(right)
        first, _ = MLStepOperator(task_id="classic", python_callable=halves.function, op_args=[1]).output
        double(first)

    assert "classic" in in_dag(build).task_ids
    with pytest.raises(StepDefinitionError, match="no output 'lfet'"):
        in_dag(lambda: halves.expand(x=[1])["lfet"])


def test_params_by_position():
    """An argument named `params` may be passed by position."""

    @ml_step
    def fit(x: int, params: dict, depth: int = 1): ...

    built = in_dag(lambda: fit(1, {"a": 1}, 2)).get_task("fit")
    assert (list(built.op_args), built.op_kwargs) == ([1], {"params": {"a": 1}, "depth": 2})


def test_our_options_are_not_the_functions_arguments():
    """Our options in `default_args` never fill a parameter of the same name, and a conflict when mapping is an error."""

    @ml_step
    def evaluate(model, version=2): ...

    built = in_dag(lambda: evaluate("m"), default_args={"model": "churn", "version": "7"}).get_task("evaluate")
    assert (list(built.op_args), built.op_kwargs, built.model, built.version) == (["m"], {}, "churn", "7")
    with pytest.raises(StepDefinitionError, match=r"option model=.*Rename the parameter"):
        in_dag(lambda: evaluate.override(model="churn").expand(model=[1, 2]))


DAG_FILE = """
import json, sys
from datetime import datetime
from airflow.sdk import dag
from typing import Annotated
from airflow_zen import Artifact, Cache, ml_step, Output

@ml_step
def features(x: int, before: list = ()) -> Annotated[list, Artifact("features")]: ...

@ml_step(cache=False, version="2", model="churn")
def train(x: int, names: set = frozenset({"a", "b"})) -> Output(a=int, b=int): ...

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def d():
    train(1)
    features(1, Artifact("before").latest())
    features.partial(before=[Artifact("before").version("golden")]).expand(x=[1, 2])
    train.partial(names={"x", "y", "z"}).expand(x=[1, 2])
    policy = Cache(ttl=60, ignore=("names",), key=lambda **inputs: inputs["x"])
    train.override(task_id="kept", cache=policy).partial(names={"x"}).expand(x=[1, 2])

from airflow.serialization import serialized_objects
serialization = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
document = serialization.to_dict(d())
# Set from the configuration that a process starts with.
document["dag"].pop("_processor_dags_folder", None)
TEXT = json.dumps(document, sort_keys=True)
print(TEXT)
"""


def test_serialization_is_stable(tmp_path):
    """Two parses of the same file in two processes serialize alike, so no new DAG version is made."""
    file = tmp_path / "d.py"
    file.write_text(DAG_FILE)
    # This process is one of the two, because starting Airflow takes long.
    here = runpy.run_path(str(file), run_name="__main__")["TEXT"]
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip().splitlines()[-1] == here
    assert "object at 0x" not in here
