"""Promises of `@ml_step` in Airflow's real task runner: what is reused, and what is not."""

import pytest
from airflow.sdk.definitions.asset import Asset

from airflow_zen import Cache, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId
from tests.airflow_version import AIRFLOW_VERSION
from tests.calls import record_call, recorded_calls
from tests.harness import run_dag
from tests.operators.pipelines import frame, pipeline, total

pytestmark = pytest.mark.usefixtures("root")


def test_second_run_is_cached_and_green():
    """The second run of an unchanged DAG succeeds without calling a function, and is marked in XCom."""
    d = pipeline(lambda: total([frame(2)]))
    first, second = run_dag(d), run_dag(d, run_id="manual__2")
    assert recorded_calls() == [("frame", 2)]
    assert set(second.states.values()) == {"success"}
    assert (first.xcom("frame")["cached"], second.xcom("frame")["cached"]) == (False, True)
    assert second.xcom("frame")["origin"] == "d/manual__1/frame/-1/1"


@pytest.mark.parametrize("conf", [{"zen": {"cache": False}}])
def test_a_run_can_compute_everything(conf):
    """A run triggered with `{"zen": {"cache": false}}` calls every function."""
    d = pipeline(lambda: frame(2))
    run_dag(d)
    assert run_dag(d, run_id="r2", conf=conf).xcom("frame")["cached"] is False
    assert len(recorded_calls()) == 2


@pytest.mark.parametrize("conf", [{}, {"zen": None}, {"zen": "x"}, {"zen": {}}])
def test_other_conf_changes_nothing(conf):
    """A conf without `cache` leaves the cache on."""
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
    """A `Cache` can be set on a step, on a DAG by default_args, mapped steps included, or by the deployment."""
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


def test_a_hit_fires_no_asset_event():
    """A computed step has an event for its asset; a reused one has none."""
    reported = []
    for run_id in ("r1", "r2"):
        built = pipeline(lambda: ml_step(outlets=[Asset("s3://b/x")])(frame.function)(1))
        reported.append(len(run_dag(built, run_id=run_id).task("frame").outlets))
    assert reported == [1, 0]


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="tasks have a state store from Airflow 3.3 on")
def test_a_hit_is_marked_in_the_state_store():
    """A reused result is marked in the task's state store, with the run that computed it."""
    built = pipeline(lambda: frame(1))
    run_dag(built)
    sent = run_dag(built, run_id="r2").supervisor.sent_messages
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
    """A task that a user clears runs again; a task that Airflow retries is reused."""
    built = pipeline(lambda: frame.override(retries=2)(2))
    run_dag(built)
    assert run_dag(built, run_id="r2", try_number=2, max_tries=2).xcom("frame")["cached"] is True
    assert run_dag(built, run_id="r2", try_number=2, max_tries=3).xcom("frame")["cached"] is False


def test_a_backfill_reuses_what_it_clears():
    """A backfill that reprocesses a day clears its tasks, and reuses what has not changed."""
    built = pipeline(lambda: total([frame(2)]))
    run_dag(built, run_id="day", run_type="backfill")
    again = run_dag(built, run_id="day", run_type="backfill", try_number=2, max_tries=1, clear_number=1)
    assert (again.xcom("frame")["cached"], again.xcom("total")["cached"]) == (True, True)


def test_a_run_may_switch_the_cache_on():
    """The run's conf takes precedence over the step: `{"zen": {"cache": true}}` reuses even a step with cache=False."""
    built = pipeline(lambda: ml_step(cache=False)(frame.function)(6))
    for run_id in ("r1", "r2"):
        run = run_dag(built, run_id=run_id, conf={"zen": {"cache": True}})
    assert run.xcom("frame")["cached"] is True


def test_the_task_instance_leaves_a_step_uncached():
    """A step that takes the task instance, and pushes a value to XCom by hand, pushes it in every run."""

    @ml_step
    def push(ti=None) -> int:
        record_call("push")
        ti.xcom_push("rows", 3)
        return 1

    built = pipeline(push)
    for run_id in ("r1", "r2"):
        assert run_dag(built, run_id=run_id).states == {"push": "success"}
    assert recorded_calls() == ["push", "push"]
    assert (
        "'ti' (given by Airflow's context) asks Airflow" in open_stack().records.get(StepRunId("d", "r2", "push")).why
    )


def test_lazy_asset_events_leave_a_step_uncached():
    """A step with a context value that Airflow loads lazily runs each time, with the reason in its record."""

    @ml_step(inlets=[Asset("news")])
    def read(inlet_events=None) -> int:
        record_call("read")
        return 1

    built = pipeline(read)
    for run_id in ("r1", "r2"):
        assert run_dag(built, run_id=run_id).states == {"read": "success"}
    assert recorded_calls() == ["read", "read"]
    assert (
        "'inlet_events' (given by Airflow's context) asks Airflow"
        in open_stack().records.get(StepRunId("d", "r2", "read")).why
    )
