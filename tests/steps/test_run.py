"""Promises of `airflow_zen.steps.run`: the whole story of one execution."""

import itertools
import json
import os
from dataclasses import replace

import msgspec
import pytest

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import OutputError, StepInterrupted
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.outputs import Output
from airflow_zen.steps.run import RunHooks, run_step
from airflow_zen.steps.step import Step
from tests.calls import record_call, recorded_calls


def make(x: int) -> dict:
    record_call(x)
    return {"x": x}


def grow(value: dict, by: int = 1) -> dict:
    record_call("grow")
    return {"x": value["x"] + by}


def load(stack, ref, tmp_path, wanted=None):
    into = tmp_path / os.urandom(4).hex()
    into.mkdir()
    return stack.load(ref, into, wanted)


def test_outputs_become_artifacts(run, stack, tmp_path):
    """A returned value is stored as an artifact, under the name of its DAG and task."""
    done = run(make, 3)
    ref = done.outputs["output"]
    assert (ref.name, ref.cached, done.state, done.cache) == ("d/t", False, StepState.FINISHED, "miss")
    assert load(stack, ref, tmp_path) == {"x": 3}


def pick(value: ArtifactRef) -> dict:
    return {"picked": value}


def test_a_ref_is_a_value_too(run, stack, tmp_path):
    """A ref that a step received can be part of what it returns, and comes back equal."""
    ref = run(make, 3).outputs["output"]
    picked = load(stack, run(pick, ref.to_wire()).outputs["output"], tmp_path)
    assert picked == {"picked": ref}
    assert replace(picked["picked"], name="n") == ref.with_name("n")


def test_equal_work_is_not_done_again(run):
    """A step with the same code and inputs is not called again, and returns the same artifact."""
    first, again = run(make, 3), run(make, 3)
    assert recorded_calls() == [3]
    ref = again.outputs["output"]
    assert (again.cache, ref.cached, ref.origin) == ("hit", True, str(first.id))
    assert ref.digest == first.outputs["output"].digest


def test_other_arguments_are_other_work(run):
    """`1`, `True` and `1.0` are three different arguments."""

    def echo(x):
        record_call(x)
        return x

    for value in (1, True, 1.0, "1"):
        run(echo, value)
    assert [type(value) for value in recorded_calls()] == [int, bool, float, str]


def test_default_and_explicit_argument_are_equal(run):
    """Passing a default explicitly gives the same key."""
    value = run(make, 1).outputs["output"].to_wire()
    run(grow, value)
    assert run(grow, value, by=1).cache == "hit"


def test_early_cutoff(run):
    """A downstream step stays cached when its upstream step runs again and returns equal bytes."""
    first = run(make, 1, cache=CacheState.OFF).outputs["output"].to_wire()
    run(grow, first)
    second = run(make, 1, cache=CacheState.OFF).outputs["output"].to_wire()
    assert run(grow, second).cache == "hit"
    assert recorded_calls() == [1, "grow", 1]


def test_deleted_data_is_a_miss(run, stack):
    """A cached result whose artifact is missing is computed and cached again."""
    ref = run(make, 3).outputs["output"]
    stack.store.transport.delete([f"artifacts/{ref.digest[:2]}/{ref.digest}/manifest.json"])
    assert run(make, 3).cache == "miss"
    assert run(make, 3).cache == "hit"
    assert recorded_calls() == [3, 3]


def test_damaged_cache_entry_is_a_miss(run, stack):
    """A step whose cache entry cannot be read is computed again, and the entry is replaced."""
    run(make, 3)
    (key,) = (key for key in stack.store.transport.list("cache") if "history" not in key)
    stack.store.transport.write(key, b'{"half":')
    assert run(make, 3).cache == "miss"
    assert run(make, 3).cache == "hit"


def test_cache_off(run):
    """With the cache off the function is called each time, and the record says why."""
    run(make, 3, cache=CacheState.OFF)
    done = run(make, 3, cache=CacheState.OFF)
    assert (recorded_calls(), done.cache, done.why) == ([3, 3], "off", "asked")


def test_version_is_part_of_the_key(run):
    """A different `version` has a different key."""
    run(make, 3, step=Step(make, "make", version="1"))
    assert run(make, 3, step=Step(make, "make", version="2")).cache == "miss"


def test_task_and_dag_names_are_not(run):
    """The same work under another task's name is a hit."""
    run(make, 3, task="one")
    done = run(make, 3, task="two")
    assert (done.cache, done.outputs["output"].name) == ("hit", "d/two")


def test_what_cannot_be_fingerprinted_runs_uncached(run):
    """A step with an argument that cannot be fingerprinted runs uncached, and its record has the reason."""

    def consume(numbers) -> int:
        return sum(numbers)

    done = run(consume, (n for n in [1, 2]))
    assert (done.state, done.cache) == (StepState.FINISHED, "off")
    assert "numbers" in done.why


def test_step_without_output_runs_each_time(run):
    """A step that returns nothing is run each time, unless it is declared cache=True."""

    def notify(x: int) -> None:
        record_call(x)

    run(notify, 1)
    assert "returns nothing" in run(notify, 1).why
    always = Step(notify, "notify", cache_always=True)
    run(notify, 1, step=always)
    assert run(notify, 1, step=always).cache == "hit"
    assert recorded_calls() == [1, 1, 1]


def test_undeclared_none_is_no_output(run):
    """A function without annotation that returns None has no output."""

    def quiet(x):
        record_call(x)

    assert run(quiet, 1).outputs == {}


def test_several_outputs(run, stack, tmp_path):
    """Each declared output is a separate artifact."""

    def split(x: int) -> Output(left=int, right=str):
        return x, str(x)

    done = run(split, 3)
    values = {name: load(stack, ref, tmp_path) for name, ref in done.outputs.items()}
    assert values == {"left": 3, "right": "3"}
    assert done.outputs["left"].name == "d/t.left"
    assert run(split, 3).cache == "hit"


def test_wrong_output_stores_nothing(run, stack):
    """A value that does not fit its declaration fails the step before anything is stored."""

    def wrong(x: int) -> Output(left=int, right=str):
        return x, x

    with pytest.raises(OutputError, match="'right'"):
        run(wrong, 3)
    assert list(stack.store.transport.list("artifacts")) == []


def test_async_function(run, stack, tmp_path):
    """An `async def` step is awaited."""

    async def later(x: int) -> int:
        return x + 1

    assert load(stack, run(later, 1).outputs["output"], tmp_path) == 2


def test_lineage_run_is_open_while_the_function_runs(run, recorder, monkeypatch):
    """The lineage run opens before the function, which gets it in the environment; afterwards the environment is as before."""
    recorder.environment = {"MLFLOW_RUN_ID": "abc"}
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    pages = []

    class Pages(RunHooks):
        def on_opened(self, opened, *, is_brief=False):
            pages.append(opened.url)

    def look() -> str:
        assert [kind for kind, _ in recorder.runs] == ["start"]
        return os.environ["MLFLOW_RUN_ID"]

    done = run(look, run_hooks=Pages())
    assert done.state is StepState.FINISHED
    assert pages == ["http://mlflow/run-1"]
    assert "MLFLOW_RUN_ID" not in os.environ


def test_a_step_is_brief_if_its_latest_result_was(stack):
    """The hook of an opened run is told whether the latest result of the task took less than a second."""
    said = []

    def double(x: int) -> int:
        return 2 * x

    class Hooks(RunHooks):
        def on_opened(self, opened, *, is_brief=False):
            said.append(is_brief)

    for number, seconds in enumerate((1.0, 0.9, 1.0, 0.0)):
        ticks = itertools.count(1, seconds)
        begun = StepRun(StepRunId("d", "r", "t", -1, number + 1), cache=CacheState.MISS)
        at_pace = msgspec.structs.replace(stack, clock=lambda ticks=ticks: float(next(ticks)))
        run_step(Step(double, "t"), Arguments.bind(double, (number,), {}), at_pace, begun, Hooks())
    assert said == [False, False, True, False]


@pytest.mark.parametrize(
    ("error", "state"),
    [(ValueError("no"), "FAILED"), (StepInterrupted("SIGTERM"), "KILLED"), (SystemExit(1), "FAILED")],
)
def test_failures_are_recorded_and_raised(run, recorder, stack, error, state):
    """A failed or killed step has that state in its record, and its exception is raised."""

    def fail() -> int:
        raise error

    with pytest.raises(type(error)):
        run(fail)
    kind, last = recorder.runs[-1]
    assert (kind, last.state) == ("finish", state)
    assert type(error).__name__ in last.error
    assert stack.records.get(StepRunId("d", "r", "t", -1, 1)).state == state


def test_a_failure_is_not_remembered(run, stack):
    """A failed step is not cached."""

    def fail() -> int:
        raise ValueError

    with pytest.raises(ValueError):
        run(fail)
    assert list(stack.cache.entries()) == []


def test_the_record_is_complete(run, stack):
    """The step run record has parameters, inputs, outputs and the cache state, and is read back unchanged."""
    value = run(make, 1).outputs["output"].to_wire()
    done = run(grow, value, by=5, task="grow")
    kept = stack.records.get(done.id)
    assert kept == done
    assert (kept.parameters, set(kept.inputs), kept.cache) == ({"by": 5}, {"value"}, "miss")
    assert StepRun.from_json(json.loads(json.dumps(done.to_json()))) == done


def test_the_recorder_is_notified_when_the_record_is_stored(run, recorder, stack, monkeypatch):
    """The recorder is notified only when the record is in the store, not while the store is away."""
    assert recorder.stored_runs == [run(make, 1)]
    monkeypatch.setattr(type(stack.records), "put", lambda *_: 1 / 0)
    run(make, 2)
    assert len(recorder.stored_runs) == 1


def test_a_cache_that_cannot_be_written_costs_nothing(run, stack, monkeypatch):
    """When the entry cannot be written the step still succeeds."""
    monkeypatch.setattr(type(stack.cache), "put", lambda self, entry: (_ for _ in ()).throw(OSError("full")))
    assert run(make, 3).state is StepState.FINISHED


def test_another_declared_output_is_other_work(run, stack, tmp_path):
    """A different declared type has a different key, because values are converted to it."""

    def echo(x: int) -> int:
        return x

    run(echo, 3)
    echo.__annotations__["return"] = float
    value = load(stack, run(echo, 3).outputs["output"], tmp_path)
    assert (value, type(value)) == (3.0, float)
    echo.__annotations__["return"] = list
    with pytest.raises(OutputError):
        run(echo, 3)


@pytest.mark.parametrize(("declared", "value"), [(float | None, None), (float | None, 1), (dict | None, None)])
def test_an_optional_output_may_be_none(run, stack, tmp_path, declared, value):
    """`-> T | None` accepts None, and converts as `-> T` does."""

    def maybe() -> float | None:
        return value

    maybe.__annotations__["return"] = declared
    loaded = load(stack, run(maybe).outputs["output"], tmp_path)
    assert (loaded, type(loaded)) == ((None, type(None)) if value is None else (1.0, float))


def test_a_cache_that_cannot_be_read_costs_nothing(run, stack, monkeypatch):
    """When the store fails during the look-up, the step runs, and its record has the reason."""
    monkeypatch.setattr(type(stack.cache), "get", lambda self, key: (_ for _ in ()).throw(OSError("503 Slow Down")))
    done = run(make, 3)
    assert (done.state, done.cache) == (StepState.FINISHED, "off")
    assert "503 Slow Down" in done.why


def test_a_kill_during_the_look_up_is_recorded(run, stack, monkeypatch):
    """A step that is killed before its function was called ends as KILLED."""
    monkeypatch.setattr(type(stack.cache), "get", lambda self, key: (_ for _ in ()).throw(StepInterrupted("SIGTERM")))
    with pytest.raises(StepInterrupted):
        run(make, 3)
    assert stack.records.get(StepRunId("d", "r", "t", -1, 1)).state == StepState.KILLED


def test_records_are_strict_json(run, stack):
    """A parameter that JSON cannot represent as a number is text in the record."""

    def echo(x: float) -> int:
        return 1

    assert run(echo, float("nan")).parameters == {"x": "nan"}
