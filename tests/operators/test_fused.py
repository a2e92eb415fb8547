"""Promises of `airflow_zen.operators.fused`: steps that run as one task."""

import os
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from airflow.sdk import dag, task, task_group

from airflow_zen import Artifact, NotNull, Output, fused, load, ml_step
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import StepDefinitionError
from airflow_zen.planning.plan import Plan, PlannedDagRun
from tests.calls import record_call, recorded_calls
from tests.harness import NOW, run_dag

pytestmark = pytest.mark.usefixtures("root")
DAY = datetime(2026, 1, 1, tzinfo=UTC)
# Not a global of the module, which would be in the cache key.
LUCK = "TEST_LUCK_ENDS"


@ml_step
def table(rows: int) -> pd.DataFrame:
    frame = pd.DataFrame({"x": range(rows)})
    record_call(["table", id(frame)])
    return frame


@ml_step
def double(frame: pd.DataFrame) -> pd.DataFrame:
    """Change the table in place."""
    record_call(["double", id(frame)])
    frame["x"] *= 2
    return frame


@ml_step
def total(frame: pd.DataFrame) -> int:
    record_call(["total", id(frame)])
    if os.environ.get("TEST_LUCK_ENDS"):
        raise ValueError("no luck")
    return int(frame["x"].sum())


@ml_step
def halves(rows: int) -> Output(whole=np.ndarray, part=np.ndarray):
    array = np.arange(float(rows))
    return array, array[: rows // 2]


@ml_step
def spoil(whole: np.ndarray) -> int:
    whole[:] = -1
    return 1


@ml_step
def add(part: np.ndarray) -> float:
    return float(part.sum())


@ml_step
def add_all(whole: np.ndarray, part: np.ndarray) -> float:
    whole[:] = -1
    return float(part.sum())


@ml_step
def plus(left: int, right: int) -> int:
    return left + right


def pipeline(build):
    @dag(dag_id="fusing", schedule=None, start_date=DAY)
    def fusing():
        build()

    return fusing()


def chain(**options):
    def build():
        with fused("prepare", **options):
            frame = table(4)
            doubled = double(frame)
            summed = total(doubled)
        plus(summed, 1)

    return pipeline(build)


def records():
    found = open_stack(Settings.read()).records.read_dag_run("fusing", "manual__1")
    return {(run.id.task_id, run.id.try_number): run for run in found}


def test_a_group_is_one_task_with_a_record_for_each_step():
    """The steps run as one task; each has its own record, cache key and artifact, which tasks after the group receive."""
    run = run_dag(chain())
    assert run.states == {"prepare": "success", "plus": "success"}, run.tasks[-1].error
    assert (load(run.xcom("plus")), run.tasks[0].label) == (13, "3 computed, 0 cached")
    found = records()
    assert [task_id for task_id, _ in found] == ["plus", "prepare.double", "prepare.table", "prepare.total"]
    assert len({record.cache_key for record in found.values()}) == 4
    assert found["prepare.double", 1].inputs["frame"].digest == found["prepare.table", 1].outputs["output"].digest
    assert load(run.xcom("prepare", "table"))["x"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("cls", "construct"),
    [(pd.DataFrame, pd.DataFrame), (pl.DataFrame, pl.DataFrame), (pa.Table, pa.table), (np.ndarray, list)],
)
def test_a_table_is_handed_over_in_memory(cls, construct):
    """The step after the one that made a table or an array gets that very object."""
    # Kept, so that no other object has its address.
    seen = []

    @ml_step
    def make() -> cls:
        value = np.asarray([1, 2, 3]) if construct is list else construct({"x": [1, 2, 3]})
        seen.append(value)
        return value

    @ml_step
    def take(value: cls) -> int:
        seen.append(value)
        return len(value)

    def build():
        with fused("prepare"):
            take(make())

    run = run_dag(pipeline(build))
    assert run.states == {"prepare": "success"}, run.tasks[-1].error
    assert load(run.xcom("prepare", "take")) == 3
    assert (len(seen), seen[0] is seen[1]) == (2, True)


def test_equal_work_is_reused():
    """Steps of a group are looked up in the cache one by one."""
    run_dag(chain())
    again = run_dag(chain(), run_id="again")
    assert again.tasks[0].label == "0 computed, 3 cached"
    assert len(recorded_calls()) == 3


def test_a_step_does_not_see_what_another_one_changed():
    """A value that a step changes in place is loaded for a later one as it is stored, also if both share memory."""

    def build():
        with fused("group"):
            frame = table(4)
            doubled, summed = double(frame), total(frame)
            whole, part = halves(6)
            spoil(whole)
            left, right = add(part), add_all(*halves(8))
        for name, value in {"doubled": doubled, "summed": summed, "left": left, "right": right}.items():
            keep.override(task_id=name)(value)

    @ml_step
    def keep(value: object) -> str:
        return str(value.x.tolist() if hasattr(value, "x") else value)

    run = run_dag(pipeline(build))
    assert run.tasks[-1].state == "success", run.tasks[-1].error
    assert {name: load(run.xcom(name)) for name in ("doubled", "summed", "left", "right")} == {
        "doubled": "[0, 2, 4, 6]",
        "summed": "6",
        "left": "3.0",
        "right": "6.0",
    }


@pytest.mark.parametrize("cache", [None, False])
def test_a_retry_goes_on_at_the_step_that_failed(cache, monkeypatch):
    """A failure names the step; a retry takes the earlier steps over, without the cache too."""
    monkeypatch.setenv(LUCK, "1")

    def build():
        with fused("prepare", retries=1):
            total.override(cache=cache)(double.override(cache=cache)(table.override(cache=cache)(4)))

    failed = run_dag(pipeline(build))
    assert failed.tasks[0].error.__notes__ == ["It is the error of step 'total' in the fused group 'prepare'."]
    assert load(failed.xcom("prepare", "double"))["x"].tolist() == [0, 2, 4, 6]
    monkeypatch.delenv(LUCK)
    done = run_dag(pipeline(build), try_number=2, max_tries=1)
    assert done.states == {"prepare": "success"}, done.tasks[0].error
    assert [name for name, _ in recorded_calls()] == ["table", "double", "total", "total"]
    assert {key: str(record.state) for key, record in records().items() if key[0] == "prepare.total"} == {
        ("prepare.total", 1): "FAILED",
        ("prepare.total", 2): "FINISHED",
    }


def test_the_plan_has_each_step():
    """The plan of a run says of each step of a group whether it is reused."""

    def plan():
        steps = Plan(chain(), PlannedDagRun({}, NOW, None, NOW)).steps()
        return [(step.task_id, str(step.decision)) for step in steps]

    names = ["prepare.table", "prepare.double", "prepare.total", "plus"]
    assert plan() == list(zip(names, ["miss", "unknown", "unknown", "unknown"], strict=True))
    run_dag(chain())
    assert plan() == [(name, "hit") for name in names]


def test_inputs_from_tasks_before_the_group():
    """What steps of a group take from other tasks is upstream of the group."""

    def build():
        before = plus(1, 2)
        with fused("group"):
            first = plus(before, 3)
            second = plus(first, 4)
        plus.override(task_id="after")(second, first)

    built = pipeline(build)
    assert built.get_task("group").upstream_task_ids == {"plus"}
    run = run_dag(built)
    assert (load(run.xcom("after")), load(run.xcom("group", "plus__1"))) == (16, 10)


def _mapped():
    table.expand(rows=[1, 2])


def _plain():
    @task
    def plain():
        return 1

    plain()


def _batched():
    table.expand(rows=[1, 2], batch=50)


def _own_queue():
    table.override(queue="gpu")(1)


def _own_stack():
    table.override(stack="staging")(1)


def _ordered():
    table(1) >> table(2)


def _called_in_order():
    table(1)
    table(2)


def _nested():
    with fused("inner"):
        table(1)


def _skipping(on_failure="skip"):
    @ml_step
    def checked() -> Annotated[pd.DataFrame, Artifact(checks=NotNull("x"), on_failure=on_failure)]:
        return pd.DataFrame({"x": [1]})

    checked()


def _failing():
    _skipping("fail")


def _warning():
    _skipping("warn")


def _one():
    table(1)


@pytest.mark.parametrize(
    ("build", "message", "before", "inside", "options"),
    [
        (_mapped, r"'table' is mapped.*Map it outside of the group; expand\(…, batch=50\)", _batched, _one, {}),
        (_plain, r"'plain' is defined in the fused group 'group'.*Define it before or after", _plain, _one, {}),
        (_own_queue, r"queue='gpu'.*fused\('group', queue=…\)", int, _own_queue, {"queue": "gpu"}),
        (_own_queue, r"or call the step outside of the group", _own_queue, _one, {}),
        (_own_stack, r"stack='staging'.*fused\('group', stack=…\)", int, _own_stack, {"stack": "staging"}),
        (_ordered, r"in the order in which they are called.*Leave it out", int, _called_in_order, {}),
        (_nested, r"'inner' is in another one\. Call its steps there", int, _one, {}),
        (_skipping, r"skips tasks.*Write on_failure='fail' or 'warn'", int, _failing, {}),
        (_skipping, r"Write on_failure='fail' or 'warn'", int, _warning, {}),
        (_skipping, r"or call the step outside of the group", _skipping, _one, {}),
        (int, r"has no steps\. Call steps of @ml_step in its block", int, _one, {}),
    ],
)
def test_what_cannot_be_fused_is_refused(build, message, before, inside, options):
    """What cannot be a part of one task is refused when the DAG is parsed; written as the error says, it is parsed."""

    def grouped(before, inside, **options):
        before()
        with fused("group", **options):
            inside()

    with pytest.raises(StepDefinitionError, match=f"(?s){message}"):
        pipeline(lambda: grouped(int, build))
    assert "group" in pipeline(lambda: grouped(before, inside, **options)).task_ids


def test_options_of_the_group_are_those_of_the_task():
    """A step may have the options that its group has."""

    def build():
        with fused("group", queue="gpu", retries=3):
            table.override(queue="gpu")(1)

    built = pipeline(build).get_task("group")
    assert (built.queue, built.retries) == ("gpu", 3)


def test_a_group_in_a_task_group():
    """A fused group in a task group of Airflow has the group's prefix, and so have its steps."""

    def build():
        @task_group
        def outer():
            with fused("inner"):
                table(1)

        outer()

    run = run_dag(pipeline(build))
    assert run.states == {"outer.inner": "success"}, run.tasks[0].error
    assert ("outer.inner.table", 1) in records()
