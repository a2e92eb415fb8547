"""Promises of `airflow_zen.steps.run` for a step that goes on elsewhere, and that another process resumes."""

import msgspec
import pytest

from airflow_zen.errors import StepDeferred
from airflow_zen.runs.step_run import StepState
from airflow_zen.steps.run import RunHooks
from airflow_zen.steps.runtime import InProcess, Runtime
from airflow_zen.steps.step import Step
from tests.calls import record_call, recorded_calls


class Elsewhere(Runtime, msgspec.Struct, frozen=True):
    """Defer, unless the step is resumed."""

    def ingredients(self, step, stack):
        return {"image": "sha256:1"}

    def execute(self, execution):
        if not execution.run_hooks.suspended:
            execution.opened()
            raise StepDeferred("trigger")
        return InProcess().execute(execution)


class Resumed(RunHooks):
    def __init__(self, suspended):
        self.suspended = suspended


def make(x: int) -> int:
    record_call(x)
    return x


STEP = Step(make, "make", runtime=Elsewhere())


@pytest.fixture
def deferred(run):
    """What `run_step` raises for a step that is deferred."""
    with pytest.raises(StepDeferred) as caught:
        run(make, 3, step=STEP)
    return caught.value


def test_a_deferred_run_is_left_open(deferred, recorder, stack):
    """A deferred step has not failed: its run is suspended, not finished, and no record is written."""
    assert deferred.trigger == "trigger"
    assert [what for what, _ in recorder.runs] == ["start", "suspend"]
    assert recorded_calls() == []
    assert stack.records.latest_try("d", "r", "t") is None


def test_a_resumed_run_goes_on(deferred, run, recorder):
    """The resumed step opens the run that was suspended, and took as long as both processes."""
    begun = recorder.runs[0][1].started
    done = run(make, 3, step=STEP, run_hooks=Resumed(deferred.suspended))
    assert (done.state, done.started) == (StepState.FINISHED, begun)
    assert recorder.resumed == [{"run_id": "run-1"}]
    assert recorded_calls() == [3]


def test_equal_work_does_not_wait_for_a_deferred_step(deferred, run):
    """A deferred step holds no lease: an equal one computes at once, and the deferred one reuses its result."""
    first = run(make, 3, step=STEP, run_hooks=Resumed({"run_id": "other"}))
    again = run(make, 3, step=STEP, run_hooks=Resumed(deferred.suspended))
    assert (first.cache, again.cache) == ("miss", "hit")
    assert recorded_calls() == [3]
