"""Promises of `airflow_zen.operators.batch`: many elements of a mapped step in one task."""

import os
from datetime import UTC, datetime
from typing import Annotated

import pytest
from airflow.sdk import dag, task

from airflow_zen import Each, Output, load, ml_step
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import BatchFailed, StepDefinitionError
from airflow_zen.planning.plan import Plan, PlannedDagRun
from tests.calls import record_call, recorded_calls
from tests.harness import NOW, run_dag

pytestmark = pytest.mark.usefixtures("root")
DAY = datetime(2026, 1, 1, tzinfo=UTC)
# Not a global of the module, which would be in the cache key.
UNLUCKY = "TEST_UNLUCKY_DEPTH"


@ml_step
def trial(depth: int, rate: float = 0.5) -> dict:
    record_call((depth, rate))
    if str(depth) == os.environ.get("TEST_UNLUCKY_DEPTH"):
        raise ValueError(f"no luck with {depth}")
    return {"depth": depth, "rate": rate}


@ml_step
def both(depth: int) -> Output(low=int, high=int):
    return depth, depth + 100


@ml_step
def depths(count: int) -> Annotated[list[int], Each]:
    return list(range(count))


@ml_step
def settings(count: int) -> Annotated[list[dict], Each]:
    return [{"depth": depth, "rate": depth / 10} for depth in range(count)]


@ml_step
def reduce(trials: list) -> list:
    return trials


def pipeline(build):
    @dag(dag_id="batched", schedule=None, start_date=DAY)
    def batched():
        build()

    return batched()


def records(run_id="manual__1"):
    found = open_stack(Settings.read()).records.read_dag_run("batched", run_id)
    return sorted(
        (run for run in found if run.id.task_id == "trial"), key=lambda run: (run.id.try_number, run.id.map_index)
    )


def test_elements_share_a_task():
    """Seven elements take three tasks, and a step that consumes them gets one list in the order of the elements."""
    run = run_dag(pipeline(lambda: reduce(trial.expand(depth=list(range(7)), batch=3))))
    assert [name for name in run.states if name.startswith("trial")] == ["trial[0]", "trial[1]", "trial[2]"]
    assert [found["depth"] for found in load(run.xcom("reduce"))] == list(range(7))
    assert [found.label for found in run.tasks if found.task_id == "trial"] == ["0–2", "3–5", "6–6"]


def test_each_element_has_its_own_record():
    """An element's record has its index among all elements, its label, its cache key and its version."""
    run_dag(pipeline(lambda: trial.expand(depth=list(range(5)), batch=2)))
    found = records()
    assert [(run.id.map_index, run.label) for run in found] == [(n, f"depth={n}") for n in range(5)]
    assert len({run.cache_key for run in found}) == 5
    assert all(run.versions["output"].version for run in found)


def test_batches_have_the_elements_of_an_unbatched_step():
    """Combinations have Airflow's order and the cache entries of an unbatched step, whatever the size of a batch."""
    lists = {"depth": [1, 2], "rate": [0.1, 0.2, 0.3]}
    plain = run_dag(pipeline(lambda: reduce(trial.expand(**lists))), run_id="plain")
    batched = run_dag(pipeline(lambda: reduce(trial.expand(**lists, batch=4))), run_id="batched")
    assert load(batched.xcom("reduce")) == load(plain.xcom("reduce"))
    assert {str(run.cache) for run in records("batched")} == {"hit"}
    assert len(recorded_calls()) == 6
    assert [found.label for found in batched.tasks if found.task_id == "trial"] == ["0–3 (4 cached)", "4–5 (2 cached)"]


@pytest.mark.parametrize("cache", [None, False])
def test_a_retry_runs_only_what_failed(cache, monkeypatch):
    """The other elements of a batch run after one fails, and a retry computes that one alone, without the cache too."""
    monkeypatch.setenv(UNLUCKY, "1")
    built = pipeline(lambda: reduce(trial.override(cache=cache, retries=1).expand(depth=[0, 1, 2, 3], batch=4)))
    failed = run_dag(built)
    assert isinstance(failed.tasks[-1].error, BatchFailed)
    assert "1 of 4 elements of 'trial' failed: [1] ValueError: no luck with 1." in str(failed.tasks[-1].error)
    assert [run.state for run in records()] == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    monkeypatch.delenv(UNLUCKY)
    done = run_dag(built, try_number=2, max_tries=1)
    assert [found["depth"] for found in load(done.xcom("reduce"))] == [0, 1, 2, 3]
    assert [depth for depth, _ in recorded_calls()] == [0, 1, 2, 3, 1]


def test_a_cleared_batch_is_computed_again():
    """After a user has cleared the task, what an earlier try computed is not taken over."""
    built = pipeline(lambda: trial.override(cache=False).expand(depth=[0, 1], batch=2))
    run_dag(built)
    run_dag(built, try_number=2, max_tries=1, clear_number=1)
    assert len(recorded_calls()) == 4


def test_lists_that_are_known_when_the_dag_runs():
    """The elements may come from other steps, as lists or keyword arguments; a small task counts their batches."""

    def build():
        reduce.override(task_id="first")(trial.partial(rate=0.1).expand(depth=depths(5), batch=2))
        reduce.override(task_id="second")(trial.override(task_id="other").expand_kwargs(settings(3), batch=2))

    run = run_dag(pipeline(build))
    assert run.tasks[-1].state == "success", run.tasks[-1].error
    assert [found["depth"] for found in load(run.xcom("first"))] == [0, 1, 2, 3, 4]
    assert [found["rate"] for found in load(run.xcom("second"))] == [0, 0.1, 0.2]
    assert run.xcom("trial__batches") == [0, 1, 2]


def test_an_element_does_not_replace_a_fixed_argument():
    """An element that sets what `partial` has set fails its batch, as in an unbatched step, unless `strict=False`."""

    def build(strict):
        return pipeline(
            lambda: trial.partial(rate=0.1).expand_kwargs([{"depth": 1, "rate": 0.2}], batch=2, strict=strict)
        )

    refused = run_dag(build(True)).tasks[0].error
    assert "Element 0 of 'trial' sets rate, which partial() has set too." in str(refused)
    assert run_dag(build(False), run_id="second").tasks[0].state == "success"
    assert recorded_calls() == [(1, 0.2)]


def test_several_outputs():
    """Each output of a batched step with several is a list over all elements."""

    def build():
        low, high = both.expand(depth=[1, 2, 3], batch=2)
        reduce.override(task_id="low")(low)
        reduce.override(task_id="high")(high)

    run = run_dag(pipeline(build))
    assert (load(run.xcom("low")), load(run.xcom("high"))) == ([1, 2, 3], [101, 102, 103])


def test_mapping_over_batches_is_refused():
    """Neither a step nor a plain task is mapped over batches, of which Airflow knows the number only."""
    with pytest.raises(StepDefinitionError, match=r"cannot be expanded over depth='trial', which runs in batches"):
        pipeline(lambda: trial.override(task_id="next").expand(depth=trial.expand(depth=[1, 2], batch=2)))

    @task
    def plain(value):
        return value

    with pytest.raises(ValueError, match="custom key 'elements'"):
        pipeline(lambda: plain.expand(value=trial.expand(depth=[1, 2], batch=2)))


@pytest.mark.parametrize("size", [0, -1, True])
def test_a_size_below_one_is_refused(size):
    """The size of a batch is a number from 1 on."""
    with pytest.raises(StepDefinitionError, match="batch is the number of elements in a task, at least 1"):
        pipeline(lambda: trial.expand(depth=[1], batch=size))


def test_the_plan_has_each_element():
    """The plan of a run says of each element whether it is reused, and what takes all of them is known if they are."""

    def build(count):
        return pipeline(lambda: reduce(trial.expand(depth=list(range(count)), batch=2)))

    run_dag(build(3))
    steps = [
        (step.task_id, step.map_index, step.decision)
        for step in Plan(build(3), PlannedDagRun({}, NOW, None, NOW)).steps()
    ]
    assert steps == [*(("trial", n, "hit") for n in range(3)), ("reduce", -1, "hit")]
    wider = [step.decision for step in Plan(build(4), PlannedDagRun({}, NOW, None, NOW)).steps()]
    assert wider == ["hit", "hit", "hit", "miss", "unknown"]
