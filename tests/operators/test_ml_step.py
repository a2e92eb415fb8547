"""Promises of `@ml_step` in Airflow's real task runner."""

import asyncio
import json
import os
import signal
import threading
import time
from datetime import timedelta

import pandas as pd
import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import task

import airflow_zen
from airflow_zen import ArtifactRef, MLStepOperator, Output, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId
from tests.calls import record_call, recorded_calls
from tests.harness import run_dag
from tests.operators.pipelines import frame, halves, pipeline, total

pytestmark = pytest.mark.usefixtures("root")


def test_values_are_passed_as_artifacts():
    """Steps pass DataFrames to one another; XCom holds small refs."""

    def build():
        left, right = halves(frame(5))
        total([left, right])

    run = run_dag(pipeline(build))
    assert set(run.states.values()) == {"success"}
    assert airflow_zen.load(run.xcom("total")) == 5
    assert ArtifactRef.from_wire(run.xcom("halves", key="right")).shape.startswith("3 rows")
    assert all(len(json.dumps(value)) < 2048 for value in run.supervisor.xcom.values())


def test_default_args_reach_mapped_steps():
    """`default_args` switch the cache off for mapped steps too."""
    built = pipeline(lambda: frame.expand(rows=[1]), default_args={"cache": False})
    run_dag(built)
    assert run_dag(built, run_id="r2").xcom("frame", map_index=0)["cached"] is False


def test_mapping_fan_out_and_in():
    """A step is mapped over a list, and its downstream step gets a list of values."""
    run = run_dag(pipeline(lambda: total(frame.expand(rows=[1, 2, 3]))))
    assert airflow_zen.load(run.xcom("total")) == 6
    assert run.states == {"frame[0]": "success", "frame[1]": "success", "frame[2]": "success", "total": "success"}


def test_mapping_over_a_mapped_step():
    """Each instance of a step that is mapped over a mapped step gets one artifact."""

    @ml_step
    def rows(table: pd.DataFrame, extra: int) -> int:
        return len(table) + extra

    run = run_dag(pipeline(lambda: rows.partial(extra=10).expand(table=frame.expand(rows=[1, 2]))))
    assert [airflow_zen.load(run.xcom("rows", map_index=n)) for n in (0, 1)] == [11, 12]


def test_expand_kwargs():
    """A step is mapped over keyword arguments."""
    run = run_dag(pipeline(lambda: frame.expand_kwargs([{"rows": 4}, {"rows": 6}])))
    assert run.xcom("frame", map_index=1)["shape"].startswith("6 rows")


def test_plain_tasks_up_and_downstream():
    """A plain task's value is a parameter of a step; a plain task gets the ref, and `load` returns the value."""

    @task
    def number():
        return 7

    @task
    def look(ref):
        return len(airflow_zen.load(ref))

    run = run_dag(pipeline(lambda: look(frame(number()))))
    assert run.xcom("look") == 7
    stack = open_stack()
    assert stack.records.get(StepRunId("d", "manual__1", "frame")).parameters == {"rows": 7}


def test_templates_are_parameters():
    """Rendered templates are passed to the function, recorded and in the key."""

    @ml_step
    def greet(day: str, ds=None) -> str:
        return f"{day} {ds}"

    run = run_dag(pipeline(lambda: greet("{{ ds }}")))
    assert airflow_zen.load(run.xcom("greet")) == "2026-01-01 2026-01-01"
    record = open_stack().records.get(StepRunId("d", "manual__1", "greet"))
    assert record.parameters == {"day": "2026-01-01", "ds": "2026-01-01"}
    assert record.cache == "miss"


def test_params_by_keyword():
    """An argument named `params` without a default gets the value of the call."""

    @ml_step
    def train(params: dict) -> int:
        return params["depth"]

    run = run_dag(pipeline(lambda: train(params={"depth": 3})))
    assert airflow_zen.load(run.xcom("train")) == 3


def make_table(rows: int) -> Output(table=pd.DataFrame, rows=int):
    return pd.DataFrame({"a": range(rows)}), rows


def describe(table: pd.DataFrame, rows: int, unit: str = "") -> str:
    assert isinstance(table, pd.DataFrame)
    return f"{len(table)} of {rows} {unit}"


def test_classic_operator():
    """Plain functions under `MLStepOperator` run as tasks: outputs are artifacts by name, inputs values, results reused."""

    def build():
        made = MLStepOperator(task_id="make", python_callable=make_table, op_args=[3])
        table, rows = made.output
        inputs = {"table": table, "rows": rows, "unit": "{{ dag.dag_id }}"}
        MLStepOperator(task_id="describe", python_callable=describe, op_kwargs=inputs, retries=1)

    first, second = (run_dag(pipeline(build), run_id=run_id) for run_id in ("r1", "r2"))
    assert first.states == second.states == {"make": "success", "describe": "success"}
    made = first.xcom("make")
    pd.testing.assert_frame_equal(airflow_zen.load(made["table"]), pd.DataFrame({"a": range(3)}))
    assert (airflow_zen.load(made["rows"]), airflow_zen.load(first.xcom("describe"))) == (3, "3 of 3 d")
    assert first.xcom("make", key="table") == made["table"]
    wires = [run.xcom(task) for run in (first, second) for task in ("make", "describe")]
    assert [wire.get("cached", wire.get("rows", {}).get("cached")) for wire in wires] == [False, False, True, True]
    assert second.xcom("describe")["digest"] == first.xcom("describe")["digest"]


def test_async_step():
    """An `async def` step is awaited in the task."""

    @ml_step
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert airflow_zen.load(run_dag(pipeline(lambda: later(1))).xcom("later")) == 2


def test_steps_run_beside_a_running_event_loop():
    """Where the thread runs an event loop, as in Jupyter, steps run, `async def` ones too, and log facts as usual."""

    @ml_step
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        airflow_zen.log_metadata({"seen": x})
        return x + 1

    @ml_step
    async def broken(x: int) -> int:
        raise ValueError(f"no {x}")

    async def notebook(step):
        return run_dag(pipeline(lambda: step(1)))

    run = asyncio.run(notebook(later))
    assert airflow_zen.load(run.xcom("later")) == 2
    assert open_stack().records.get(StepRunId("d", "manual__1", "later")).metadata == {"": {"seen": 1}}
    assert str(asyncio.run(notebook(broken)).task("broken").error) == "no 1"


def test_no_output_leaves_no_xcom():
    """A step that returns nothing pushes no XCom."""

    @ml_step
    def quiet(x: int) -> None: ...

    assert run_dag(pipeline(lambda: quiet(1))).xcom("quiet") is None


def test_failure_fails_the_task_and_is_recorded():
    """An exception of the function fails the task, and is in the record."""

    @ml_step
    def fail() -> int:
        raise ValueError("no data")

    run = run_dag(pipeline(fail))
    assert run.states == {"fail": "failed"}
    assert isinstance(run.tasks[0].error, ValueError)
    assert open_stack().records.get(StepRunId("d", "manual__1", "fail")).error == "ValueError: no data"


def test_sigterm_reaches_the_function():
    """When the task receives SIGTERM, the function's `finally` runs and the step run ends as KILLED."""

    @ml_step
    def slow() -> int:
        record_call("begun")
        try:
            time.sleep(120)
        finally:
            record_call("cleaned")
        return 1

    def stop():
        while not recorded_calls():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    run = run_dag(pipeline(slow))
    assert (run.states, recorded_calls()) == ({"slow": "failed"}, ["begun", "cleaned"])
    assert open_stack().records.get(StepRunId("d", "manual__1", "slow")).state == "KILLED"
    assert "interruptible" not in repr(signal.getsignal(signal.SIGTERM))


def test_timeout_ends_as_failed():
    """An `execution_timeout` stops the function and the step run ends as FAILED."""

    @ml_step(execution_timeout=timedelta(minutes=2))
    def slow() -> int:
        # Airflow has set this alarm; now it comes while the function runs, however long the way to it took.
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 60
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        time.sleep(120)
        return 1

    run = run_dag(pipeline(slow))
    assert run.states == {"slow": "failed"}
    assert "Timeout" in open_stack().records.get(StepRunId("d", "manual__1", "slow")).error


def test_mapped_tasks_are_labelled():
    """A mapped task has a label with its mapped arguments, marked when it is cached."""
    labels = []
    for run_id in ("r1", "r2"):
        run = run_dag(pipeline(lambda: frame.expand(rows=[1, 2])), run_id=run_id)
        labels.append([task.label for task in run.tasks])
    assert labels == [["rows=1", "rows=2"], ["rows=1 (cached)", "rows=2 (cached)"]]


def test_a_users_own_label_stays():
    """A `map_index_template` of the user is not replaced."""
    own = frame.override(map_index_template="mine {{ ti.map_index }}")
    assert run_dag(pipeline(lambda: own.expand(rows=[1]))).tasks[0].label == "mine 0"


def test_nothing_secret_is_stored(monkeypatch, root):
    """No credential of a connection appears in refs, manifests, records or cache entries."""
    monkeypatch.setenv("AIRFLOW_CONN_M", '{"conn_type": "mlflow", "host": "http://127.0.0.1:9", "password": "hush"}')
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_CONN_ID", "m")
    run = run_dag(pipeline(lambda: total([frame(2)])))
    assert set(run.states.values()) == {"success"}
    texts = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert texts
    assert not any(b"hush" in text for text in [*texts, repr(run.supervisor.xcom).encode()])


def test_a_skipped_step_has_not_failed():
    """A step that raises a skip is skipped in Airflow, and its step run is not FAILED."""

    @ml_step
    def skip() -> int:
        raise AirflowSkipException("no data today")

    assert run_dag(pipeline(skip)).states == {"skip": "skipped"}
    assert open_stack().records.get(StepRunId("d", "manual__1", "skip")).state == "FINISHED"
