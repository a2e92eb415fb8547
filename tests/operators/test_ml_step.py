"""Promises of `@ml_step` in Airflow's real task runner."""

import asyncio
import json
import os
import signal
import threading
import time
from datetime import datetime, timedelta

import pandas as pd
import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import dag, task
from airflow.sdk.definitions.asset import Asset

import airflow_zen
from airflow_zen import ArtifactRef, Cache, MLStepOperator, Output, ml_step
from airflow_zen.lineage.step_run import StepRunId
from airflow_zen.settings import open_stack
from tests.calls import VARIABLE, called, calls
from tests.harness import run_dag


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A fresh artifact root, and no MLflow."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "calls"))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "root"


def pipeline(build, dag_id="d", **options):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), **options)
    def d():
        build()

    return d()


@ml_step
def frame(rows: int) -> pd.DataFrame:
    called(("frame", rows))
    return pd.DataFrame({"a": range(rows)})


@ml_step
def halves(table: pd.DataFrame) -> Output(left=pd.DataFrame, right=pd.DataFrame):
    middle = len(table) // 2
    return table[:middle], table[middle:]


@ml_step
def total(tables: list[pd.DataFrame]) -> int:
    return sum(len(table) for table in tables)


def test_values_travel_as_artifacts():
    """Steps pass DataFrames to one another; XCom holds small refs."""

    def build():
        left, right = halves(frame(5))
        total([left, right])

    run = run_dag(pipeline(build))
    assert set(run.states.values()) == {"success"}
    assert airflow_zen.load(run.xcom("total")) == 5
    assert ArtifactRef.from_wire(run.xcom("halves", key="right")).shape.startswith("3 rows")
    assert all(len(json.dumps(value)) < 2048 for value in run.supervisor.xcom.values())


def test_second_run_is_cached_and_green():
    """The second run of an unchanged DAG succeeds without calling a function, and says so in XCom."""
    d = pipeline(lambda: total([frame(2)]))
    first, second = run_dag(d), run_dag(d, run_id="manual__2")
    assert calls() == [("frame", 2)]
    assert set(second.states.values()) == {"success"}
    assert (first.xcom("frame")["cached"], second.xcom("frame")["cached"]) == (False, True)
    assert second.xcom("frame")["origin"] == "d/manual__1/frame/-1/1"


@pytest.mark.parametrize("conf", [{"zen": {"cache": False}}])
def test_a_run_can_ask_for_everything_anew(conf):
    """A run triggered with `{"zen": {"cache": false}}` calls every function."""
    d = pipeline(lambda: frame(2))
    run_dag(d)
    assert run_dag(d, run_id="r2", conf=conf).xcom("frame")["cached"] is False
    assert len(calls()) == 2


@pytest.mark.parametrize("conf", [{}, {"zen": None}, {"zen": "x"}, {"zen": {}}])
def test_other_conf_changes_nothing(conf):
    """A conf that does not speak of the cache leaves it on."""
    d = pipeline(lambda: frame(2))
    run_dag(d)
    assert run_dag(d, run_id="r2", conf=conf).xcom("frame")["cached"] is True


def test_cache_off_by_step_dag_and_deployment(monkeypatch):
    """The cache is switched off by a step, by a DAG's default_args, or by the deployment."""
    for built in (
        pipeline(lambda: ml_step(cache=False)(frame.function)(3)),
        pipeline(lambda: frame(4), default_args={"cache": False}),
    ):
        run_dag(built)
        assert run_dag(built, run_id="r2").xcom("frame")["cached"] is False
    monkeypatch.setenv("AIRFLOW__ZEN__CACHE", "False")
    built = pipeline(lambda: frame(5))
    run_dag(built)
    assert run_dag(built, run_id="r2").xcom("frame")["cached"] is False


def test_a_policy_by_step_dag_and_deployment(monkeypatch):
    """A `Cache` is given to a step, to a DAG by default_args, mapped steps included, or by the deployment."""
    ignoring = Cache(ignore=("extra",))

    @ml_step
    def plus(rows: int, extra: int = 0) -> int:
        return rows

    for built in (
        pipeline(lambda: [ml_step(cache=ignoring)(plus.function)(1, extra=n) for n in (1, 2)]),
        pipeline(lambda: [plus(2, extra=n) for n in (1, 2)], default_args={"cache": ignoring}),
    ):
        assert run_dag(built).xcom("plus__1")["cached"] is True
    built = pipeline(lambda: plus.partial(rows=3).expand(extra=[1, 2]), default_args={"cache": ignoring})
    assert run_dag(built).xcom("plus", map_index=1)["cached"] is True
    for n, cached in (("dag", False), ("shared", True)):
        monkeypatch.setenv("AIRFLOW__ZEN__CACHE_SCOPE", n)
        run_dag(pipeline(lambda: plus(4), dag_id=f"first_{n}"))
        assert run_dag(pipeline(lambda: plus(4), dag_id=f"second_{n}")).xcom("plus")["cached"] is cached


def test_default_args_reach_mapped_steps():
    """`default_args` switch the cache off for mapped steps too."""
    built = pipeline(lambda: frame.expand(rows=[1]), default_args={"cache": False})
    run_dag(built)
    assert run_dag(built, run_id="r2").xcom("frame", map_index=0)["cached"] is False


def test_mapping_fan_out_and_in():
    """A step is mapped over a list, and arrives downstream as a list of values."""
    run = run_dag(pipeline(lambda: total(frame.expand(rows=[1, 2, 3]))))
    assert airflow_zen.load(run.xcom("total")) == 6
    assert run.states == {"frame[0]": "success", "frame[1]": "success", "frame[2]": "success", "total": "success"}


def test_mapping_over_a_mapped_step():
    """A step mapped over a mapped step gets one artifact each."""

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
    """A plain task's value is a parameter of a step; a plain task gets the ref, and `load` gives the value."""

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
    """What Airflow renders is what the function gets, the record shows and the key knows."""

    @ml_step
    def greet(day: str, ds=None) -> str:
        return f"{day} {ds}"

    run = run_dag(pipeline(lambda: greet("{{ ds }}")))
    assert airflow_zen.load(run.xcom("greet")) == "2026-01-01 2026-01-01"
    record = open_stack().records.get(StepRunId("d", "manual__1", "greet"))
    assert record.parameters == {"day": "2026-01-01", "ds": "2026-01-01"}
    assert record.cache == "miss"


def test_params_by_keyword():
    """An argument named `params` without a default takes what the call gives it."""

    @ml_step
    def train(params: dict) -> int:
        return params["depth"]

    run = run_dag(pipeline(lambda: train(params={"depth": 3})))
    assert airflow_zen.load(run.xcom("train")) == 3


def test_the_whole_context_is_not_cached():
    """A step that takes Airflow's whole context runs each time, and its secrets are not recorded."""

    @ml_step
    def know(x: int, **context) -> str:
        return context["run_id"]

    run = run_dag(pipeline(lambda: know(1)))
    record = open_stack().records.get(StepRunId("d", "manual__1", "know"))
    assert airflow_zen.load(run.xcom("know")) == "manual__1"
    assert record.cache == "off"
    assert "Airflow's context" in record.why or "context" in record.why
    assert record.parameters in ({"x": 1}, {"x": 1, "context": {}})


def test_classic_operator_runs():
    """`MLStepOperator` runs as `@ml_step` does."""

    def build():
        first = MLStepOperator(task_id="first", python_callable=frame.function, op_args=[3])
        MLStepOperator(task_id="second", python_callable=total.function, op_kwargs={"tables": [first.output]})

    assert airflow_zen.load(run_dag(pipeline(build)).xcom("second")) == 3


def test_async_step():
    """An `async def` step is awaited in the task."""

    @ml_step
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert airflow_zen.load(run_dag(pipeline(lambda: later(1))).xcom("later")) == 2


def test_no_output_leaves_no_xcom():
    """A step that returns nothing pushes nothing."""

    @ml_step
    def quiet(x: int) -> None: ...

    assert run_dag(pipeline(lambda: quiet(1))).xcom("quiet") is None


def test_failure_fails_the_task_and_is_recorded():
    """A function's own exception fails the task, and the record tells it."""

    @ml_step
    def fail() -> int:
        raise ValueError("no data")

    run = run_dag(pipeline(fail))
    assert run.states == {"fail": "failed"}
    assert isinstance(run.tasks[0].error, ValueError)
    assert open_stack().records.get(StepRunId("d", "manual__1", "fail")).error == "ValueError: no data"


def test_sigterm_reaches_the_function():
    """When the task is told to stop, the function's `finally` runs and the step run ends as KILLED."""

    @ml_step
    def slow() -> int:
        called("begun")
        try:
            time.sleep(120)
        finally:
            called("cleaned")
        return 1

    def stop():
        while not calls():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    run = run_dag(pipeline(slow))
    assert (run.states, calls()) == ({"slow": "failed"}, ["begun", "cleaned"])
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


def test_a_hit_fires_no_asset_event():
    """A step that ran reports its asset; one that reused a result does not, so that nothing wakes for no news."""
    reported = []
    for run_id in ("r1", "r2"):
        built = pipeline(lambda: ml_step(outlets=[Asset("s3://b/x")])(frame.function)(1))
        reported.append(len(run_dag(built, run_id=run_id).task("frame").outlets))
    assert reported == [1, 0]


def test_mapped_tasks_are_labelled():
    """A mapped task is labelled with what it is mapped over, and says when it is cached."""
    labels = []
    for run_id in ("r1", "r2"):
        run = run_dag(pipeline(lambda: frame.expand(rows=[1, 2])), run_id=run_id)
        labels.append([task.label for task in run.tasks])
    assert labels == [["rows=1", "rows=2"], ["rows=1 (cached)", "rows=2 (cached)"]]


def test_a_users_own_label_stays():
    """A `map_index_template` of the user's own is left alone."""
    own = frame.override(map_index_template="mine {{ ti.map_index }}")
    assert run_dag(pipeline(lambda: own.expand(rows=[1]))).tasks[0].label == "mine 0"


def test_a_hit_is_remarked_in_the_state_store():
    """A reused result is remarked in the task's state store, with the run that made it."""
    built = pipeline(lambda: frame(1))
    run_dag(built)
    sent = run_dag(built, run_id="r2").supervisor.sent
    assert any(getattr(message, "value", None) == "hit: d/manual__1/frame/-1/1" for message in sent)


def test_one_step_can_be_recomputed():
    """A run triggered with `{"zen": {"recompute": ["frame"]}}` runs that step and reuses the others."""
    built = pipeline(lambda: total([frame(2)]))
    run_dag(built)
    run = run_dag(built, run_id="r2", conf={"zen": {"recompute": ["frame"]}})
    assert (run.xcom("frame")["cached"], run.xcom("total")["cached"]) == (False, True)
    assert "recompute" in open_stack().records.get(StepRunId("d", "r2", "frame")).why
    assert run_dag(built, run_id="r3").xcom("frame")["origin"] == "d/r2/frame/-1/1"


def test_a_cleared_task_is_recomputed_and_a_retry_is_not():
    """A task that a person clears runs again; one that Airflow retries keeps its hit."""
    built = pipeline(lambda: frame.override(retries=2)(2))
    run_dag(built)
    assert run_dag(built, run_id="r2", try_number=2, max_tries=2).xcom("frame")["cached"] is True
    assert run_dag(built, run_id="r2", try_number=2, max_tries=3).xcom("frame")["cached"] is False


def test_a_backfill_reuses_what_it_clears():
    """A backfill that runs a day again clears its tasks, and reuses what has not changed."""
    built = pipeline(lambda: total([frame(2)]))
    run_dag(built, run_id="day", run_type="backfill")
    again = run_dag(built, run_id="day", run_type="backfill", try_number=2, max_tries=1, clear_number=1)
    assert (again.xcom("frame")["cached"], again.xcom("total")["cached"]) == (True, True)


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
    """A step that skips itself is skipped in Airflow, and its step run is not FAILED."""

    @ml_step
    def skip() -> int:
        raise AirflowSkipException("no data today")

    assert run_dag(pipeline(skip)).states == {"skip": "skipped"}
    assert open_stack().records.get(StepRunId("d", "manual__1", "skip")).state == "FINISHED"


def test_a_run_may_switch_the_cache_on():
    """A run's own word goes before the step's: `{"zen": {"cache": true}}` reuses even a step with cache=False."""
    built = pipeline(lambda: ml_step(cache=False)(frame.function)(6))
    for run_id in ("r1", "r2"):
        run = run_dag(built, run_id=run_id, conf={"zen": {"cache": True}})
    assert run.xcom("frame")["cached"] is True


def test_asset_events_that_are_asked_for_leave_a_step_uncached():
    """What Airflow hands over empty and fills when asked cannot be in a key: such a step runs each time, and says why."""

    @ml_step(inlets=[Asset("news")])
    def read(inlet_events=None) -> int:
        called("read")
        return 1

    built = pipeline(read)
    for run_id in ("r1", "r2"):
        assert run_dag(built, run_id=run_id).states == {"read": "success"}
    assert calls() == ["read", "read"]
    assert (
        "'inlet_events' (given by Airflow's context) asks Airflow"
        in open_stack().records.get(StepRunId("d", "r2", "read")).why
    )
