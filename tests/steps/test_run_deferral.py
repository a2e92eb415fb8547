"""Promises of `airflow_zen.steps.run` for a step that goes on elsewhere, and that another process resumes."""

import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from airflow_zen.artifacts import leases
from airflow_zen.errors import StepDeferred
from airflow_zen.runs.step_run import StepRunId, StepState
from airflow_zen.steps.run import RunHooks, end_suspended_runs
from airflow_zen.steps.runtime import InProcess, Runtime
from airflow_zen.steps.step import Step
from tests.calls import record_call, recorded_calls

FIRST = StepRunId("d", "r", "t", -1, 1)


class Elsewhere(Runtime, msgspec.Struct, frozen=True):
    """Defer, unless the step is resumed."""

    def ingredients(self, step, stack):
        return {"image": "sha256:1"}

    def execute(self, execution):
        if execution.run_hooks.event is None:
            execution.opened()
            raise StepDeferred("trigger")
        return InProcess().execute(execution)


class Hooks(RunHooks):
    """Those of a process that can defer; with an event it resumes."""

    can_defer = True

    def __init__(self, event=None):
        self.event = event


def make(x: int) -> int:
    record_call(x)
    return x


STEP = Step(make, "make", runtime=Elsewhere())


def until(reached):
    last = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < last
        time.sleep(0.02)


@pytest.fixture
def deferred(run):
    """What `run_step` raises for a step that is deferred."""
    with pytest.raises(StepDeferred) as caught:
        run(make, 3, step=STEP)
    return caught.value


@pytest.fixture
def resume(run):
    """Resume the step."""
    return lambda **options: run(make, 3, step=STEP, run_hooks=Hooks({}), **{"try_number": 1, **options})


def test_a_deferred_run_is_left_open(deferred, recorder, stack):
    """A deferred step has not failed: its run is suspended, not finished, and no record is written."""
    assert deferred.trigger == "trigger"
    assert [what for what, _ in recorder.runs] == ["start", "suspend"]
    assert recorded_calls() == []
    assert stack.records.latest_try("d", "r", "t") is None


def test_a_resumed_run_goes_on(deferred, resume, recorder):
    """The resumed step opens the run that was suspended, at once, and took as long as both processes."""
    begun = recorder.runs[0][1].started
    done = resume()
    assert (done.state, done.started) == (StepState.FINISHED, begun)
    assert recorder.resumed == [{"run_id": "run-1"}]
    assert recorded_calls() == [3]


def test_equal_work_waits_for_a_deferred_step(deferred, run, resume, caplog):
    """A deferred step keeps its lease: an equal one waits for its result, and is not computed."""
    caplog.set_level("INFO")
    with ThreadPoolExecutor(1) as pool:
        equal = pool.submit(run, make, 3, step=STEP, task="other", run_hooks=Hooks({}))
        until(lambda: "waiting for its result" in caplog.text)
        assert resume().cache == "miss"
        assert equal.result().cache == "hit"
    assert recorded_calls() == [3]


def test_equal_work_goes_on_when_nobody_renews_the_lease(run, resume, monkeypatch):
    """Where no trigger keeps the lease of a deferred step, an equal step computes, and the deferred one reuses its result."""
    monkeypatch.setattr(leases, "_SUSPENDED_SECONDS", 0.2)
    with pytest.raises(StepDeferred):
        run(make, 3, step=STEP)
    assert resume(task="other", try_number=2).cache == "miss"
    assert resume().cache == "hit"
    assert recorded_calls() == [3]


def test_a_deferred_run_that_is_not_resumed_is_ended(deferred, run, recorder, stack):
    """The next try of a task that was cleared while it was deferred ends the run of the first one as killed, once."""
    with pytest.raises(StepDeferred):
        run(make, 3, step=STEP, run_hooks=Hooks(), try_number=2)
    ended = stack.records.get(FIRST)
    assert (ended.state, "cleared or marked by a user" in ended.error) == (StepState.KILLED, True)
    assert recorder.resumed == [{"run_id": "run-1"}]
    assert [(what, each.id.try_number) for what, each in recorder.runs if what == "finish"] == [("finish", 1)]
    assert [each.run.id.try_number for each in stack.records.suspended()] == [2]


def test_the_end_of_a_deferred_run_ends_its_lease(deferred, run, stack, caplog):
    """Who waits for the result of a deferred step that is cleared computes it."""
    caplog.set_level("INFO")
    with ThreadPoolExecutor(1) as pool:
        equal = pool.submit(run, make, 3, step=STEP, task="other", run_hooks=Hooks({}))
        until(lambda: "waiting for its result" in caplog.text)
        end_suspended_runs(stack, FIRST)
        assert equal.result().cache == "miss"


def test_a_run_that_has_ended_is_not_ended_again(deferred, resume, stack):
    """What is suspended of a run that has a record is deleted, and the record stays."""
    suspended = stack.records.get_suspended(FIRST)
    resume()
    stack.records.put_suspended(suspended)
    end_suspended_runs(stack, FIRST)
    assert stack.records.get(FIRST).state is StepState.FINISHED
    assert list(stack.records.suspended()) == []
