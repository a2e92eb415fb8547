"""Promises about steps that read the task run's context."""

from typing import Any

import pytest
from airflow.sdk import get_current_context

import airflow_zen
from airflow_zen import ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId
from tests.calls import record_call, recorded_calls
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

pytestmark = pytest.mark.usefixtures("root")


@ml_step
def read(x: int) -> list:
    record_call("read")
    context = get_current_context()
    return [context["params"]["depth"], context["dag_run"].conf.get("day"), x]


@ml_step
def read_given(x: int, **context: Any) -> list:
    record_call("read")
    return [context["params"]["depth"], context["dag_run"].conf.get("day"), x]


@ml_step
def read_all(x: int, **context: Any) -> str:
    record_call("read")
    return ",".join(sorted(context)) + context["run_id"]


@ml_step
def read_computed(x: int) -> str:
    record_call("read")
    return str(get_current_context()["run_" + "id"])


@pytest.mark.parametrize("step", [read, read_given], ids=["get_current_context", "**context"])
def test_members_by_constant_names_are_in_the_key(step):
    """A step that reads members by constant names is reused in another run with equal values, and only there."""

    def run(run_id: str, depth: int, **conf: Any):
        done = run_dag(pipeline(lambda: step(1), params={"depth": depth, "width": len(run_id)}), run_id, conf)
        found = airflow_zen.load(done.xcom(step.__name__))
        return found, open_stack().records.get(StepRunId("d", run_id, step.__name__))

    assert run("r1", 3, day="a")[0] == [3, "a", 1]
    same, record = run("run-2", 3, day="a", other=1)
    assert same == [3, "a", 1]
    assert record.cache == "hit"
    changed, record = run("r3", 4, day="a")
    assert changed == [4, "a", 1]
    assert "context params.depth: 3 → 4" in record.why
    assert run("r4", 4, day="b")[0] == [4, "b", 1]
    assert len(recorded_calls()) == 3


@pytest.mark.parametrize("step", [read_all, read_computed], ids=["**context", "get_current_context"])
def test_other_uses_are_not_cached(step):
    """A step that uses the context otherwise runs each time, and the reason says how to read it; no member is recorded."""
    for run_id in ("r1", "r2"):
        done = run_dag(pipeline(lambda: step(1)), run_id)
        record = open_stack().records.get(StepRunId("d", run_id, step.__name__))
        assert airflow_zen.load(done.xcom(step.__name__)).endswith(run_id)
        assert record.cache == "off"
        assert "constant names" in record.why
        assert record.parameters in ({"x": 1}, {"x": 1, "context": {}})
    assert len(recorded_calls()) == 2
