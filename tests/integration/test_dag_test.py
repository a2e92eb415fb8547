"""The same steps under `dag.test()`, with Airflow's own metadata database."""

from datetime import datetime

import pytest
from airflow.sdk import dag

import airflow_zen
from airflow_zen import Output, ml_step
from airflow_zen.lineage.step_run import StepRunId
from airflow_zen.settings import open_stack


@ml_step
def numbers(upto: int) -> Output(even=list, odd=list):
    return [n for n in range(upto) if n % 2 == 0], [n for n in range(upto) if n % 2]


@ml_step
def add(values: list, start: int) -> int:
    return sum(values) + start


@ml_step
def largest(sums: list[int]) -> int:
    return max(sums)


@dag(dag_id="dag_test", schedule=None, start_date=datetime(2026, 1, 1))
def pipeline():
    even, odd = numbers(10)
    largest(add.partial(values=even).expand(start=[0, 100]))
    add.override(task_id="add_odd")(odd, 0)


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


def test_dag_test_runs_steps(run_dag):
    """`dag.test()` runs a pipeline of steps, mapped ones too, and leaves its artifacts and records."""
    run = run_dag(pipeline())
    assert run.state == "success"
    record = open_stack().records.get(StepRunId("dag_test", run.run_id, "largest"))
    assert airflow_zen.load(record.outputs["output"]) == 120
    assert (
        airflow_zen.load(open_stack().records.get(StepRunId("dag_test", run.run_id, "add_odd")).outputs["output"]) == 25
    )


def test_dag_test_uses_the_cache_and_can_leave_it(run_dag):
    """A second `dag.test()` reuses everything, unless its conf says otherwise."""
    first, second = (run_dag(pipeline()) for _ in range(2))
    third = run_dag(pipeline(), run_conf={"zen": {"cache": False}})
    records = open_stack().records
    told = [{record.cache for record in records.of("dag_test", run.run_id)} for run in (first, second, third)]
    assert told == [{"miss"}, {"hit"}, {"off"}]
