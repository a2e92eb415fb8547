"""Promises of `airflow_zen.steps.run`, and of how a step's `Cache` decides about it."""

from threading import Event
from typing import Annotated

import pandas as pd
import pytest
from msgspec.structs import replace

from airflow_zen import Cache, Each
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.cache_key import cache_key
from airflow_zen.steps.run import RunHooks, run_step
from airflow_zen.steps.step import Step
from tests.calls import record_call, recorded_calls


def work(x: int = 1, verbose: bool = False, **options) -> int:
    record_call("work")
    return x


def rows(frame: pd.DataFrame, other: pd.DataFrame) -> int:
    record_call("rows")
    return len(frame)


@pytest.fixture
def states(run):
    """Run a function with each of several arguments under one policy; return the cache states."""

    def of(function, policy, *argument_sets, cache_always=False, task="t"):
        step = Step(function, function.__name__, cache=policy, cache_always=cache_always)
        return [run(function, step=step, task=task, **arguments).cache for arguments in argument_sets]

    return of


def test_ignored_parameters_do_not_matter(states):
    """Another value of an ignored parameter has the same key; of any other parameter a different one."""
    policy = Cache(ignore=("verbose",))
    assert states(work, policy, {"verbose": False}, {"verbose": True}, {"x": 2}) == ["miss", "hit", "miss"]


def test_ignored_options_do_not_matter(states):
    """A keyword argument of `**options` can be ignored by its name."""
    policy = Cache(ignore=("colour",))
    assert states(work, policy, {"colour": "red"}, {"colour": "blue"}, {"size": 1}) == ["miss", "hit", "miss"]


def test_ignored_artifacts_do_not_matter(states, stack):
    """An artifact can be ignored like any parameter."""
    a, b, c = (stack.save(pd.DataFrame({"a": range(n)})).ref.to_wire() for n in (1, 2, 3))
    argument_sets = ({"frame": a, "other": b}, {"frame": a, "other": c}, {"frame": b, "other": b})
    assert states(rows, Cache(ignore=("other",)), *argument_sets) == ["miss", "hit", "miss"]


def test_a_custom_key_replaces_all_arguments(states, stack):
    """The result of `key` replaces all parameters and inputs, which it gets by name, artifacts as refs."""
    a, b = (stack.save(pd.DataFrame({"a": range(n)})).ref.to_wire() for n in (1, 2))
    policy = Cache(key=lambda frame, other: frame)
    assert states(rows, policy, {"frame": a, "other": b}, {"frame": a, "other": a}, {"frame": b, "other": b}) == [
        "miss", "hit", "miss",
    ]  # fmt: skip
    policy = Cache(key=lambda **inputs: inputs["x"] // 10)
    assert states(work, policy, {"x": 10}, {"x": 19}, {"x": 20}) == ["miss", "hit", "miss"]


def plus(x: int, *more, **options) -> int:
    return x


def test_a_custom_key_gets_options_by_name(states):
    """`key` gets the arguments of `**options` by name, and `*more` as a tuple."""
    policy = Cache(key=lambda x, more, size=0, **_: (x, more, size))
    assert states(plus, policy, {"x": 1, "size": 1}, {"x": 1, "size": 2}, {"x": 1, "size": 2, "colour": 3}) == [
        "miss", "miss", "hit",
    ]  # fmt: skip


def test_a_custom_key_may_be_a_set_of_artifacts(states, stack):
    """Artifacts in a set that `key` returns count by content, whichever run made them and whether they were reused."""
    ref = stack.save(pd.DataFrame({"a": [1]})).ref
    wires = [each.to_wire() for each in (ref, ref.reused_from("d/r/other/-1/1"))]
    policy = Cache(key=lambda frame, other: frozenset([frame]))
    assert states(rows, policy, *[{"frame": wire, "other": wire} for wire in wires]) == ["miss", "hit"]


def test_a_key_that_fails_leaves_the_step_uncached(run):
    """A step whose `key` raises runs uncached, and its record has the reason."""
    done = run(work, step=Step(work, "work", cache=Cache(key=lambda y: y)), x=1)
    assert (done.cache, str(done.state)) == ("off", "FINISHED")
    assert "Cache(key=…) of step 'work': TypeError" in done.why


def test_old_results_are_computed_again(run, stack):
    """A result older than its `ttl` is computed again with that reason, and is then reused again."""
    step = Step(work, "work", cache=Cache(ttl=3600))
    first = run(work, step=step)
    hour_later = replace(stack.cache.get(first.cache_key), created=stack.clock() - 3700)
    stack.cache.put(hour_later)
    again = run(work, step=step)
    assert again.cache == "miss"
    assert again.why.endswith("old, and is kept for 1:00:00")
    assert run(work, step=step).cache == "hit"
    assert recorded_calls() == ["work", "work"]


def test_the_ttl_is_not_in_the_key(states):
    """Two steps with a different `ttl` share results."""
    assert states(work, Cache(ttl=1000), {}) + states(work, Cache(), {}) == ["miss", "hit"]


def test_variables_decide(states, stack, monkeypatch):
    """A named environment variable is in the key."""
    monkeypatch.setenv("REGION", "eu")
    before = states(work, Cache(env=("REGION",)), {}, {})
    monkeypatch.setenv("REGION", "us")
    assert before + states(work, Cache(env=("REGION",)), {}) == ["miss", "hit", "miss"]


def test_versions_of_libraries_may_be_left_out(stack):
    """With `packages=False` no library version is in the key; the version of Python and the code are."""
    labels = []
    for packages in (True, False):
        step = Step(rows_of, "rows_of", cache=Cache(packages=packages))
        labels.append(set(cache_key(step, Arguments.bind(rows_of, (), {}), stack).ingredients))
    assert labels[0] - labels[1] == {"distribution pandas"}
    assert {"python", "function rows_of"} <= labels[1]


def rows_of() -> int:
    return len(pd.DataFrame({"a": [1]}))


def test_results_of_one_dag_only(stack):
    """With `scope="dag"` a result is reused in its own DAG and in no other."""
    step = Step(work, "work", cache=Cache(scope="dag"))
    runs = [StepRun(StepRunId(dag, f"r{n}", "t"), cache=CacheState.MISS) for n, dag in enumerate(["a", "a", "b"])]
    assert [run_step(step, Arguments.bind(work, (), {}), stack, run).cache for run in runs] == ["miss", "hit", "miss"]


def test_a_history_that_cannot_be_read_costs_nothing(run, stack, monkeypatch):
    """A history that cannot be read costs neither the result nor its reuse, and leaves no lease."""

    def refuse(*_):
        raise PermissionError("denied")

    monkeypatch.setattr(type(stack.cache.history), "recent_records", refuse)
    first = run(work)
    assert (first.cache, first.why) == ("miss", "what was computed before cannot be read: denied")
    assert list(stack.cache.transport.list(f"cache/{first.cache_key[:2]}/{first.cache_key}.lease")) == []
    assert run(work).cache == "hit"


def none(x: int) -> Annotated[list[int], Each]:
    record_call("none")
    return []


def test_an_empty_list_of_elements_is_reused(run):
    """An empty list of elements is cached."""
    assert [run(none, 1).cache, run(none, 1).cache] == ["miss", "hit"]
    assert recorded_calls() == ["none"]


def test_a_reused_result_keeps_the_seconds_it_took(run, stack):
    """The record of a hit has the seconds that the computation took."""
    first, second = run(work), run(work)
    assert first.seconds > 0
    assert second.seconds == first.seconds
    assert stack.records.get(second.id).seconds == first.seconds


def test_the_run_opens_while_the_cache_is_looked_up(run, recorder, monkeypatch):
    """The lineage server opens the run of a step, computed or reused, while its key is looked up in the cache."""
    get, start, is_open = StepCache.get, recorder.start, Event()

    def get_after_start(cache, key):
        assert is_open.wait(60), "The run was not opened before the look-up ended."
        return get(cache, key)

    def open_run(*args, **options):
        is_open.set()
        return start(*args, **options)

    monkeypatch.setattr(StepCache, "get", get_after_start)
    monkeypatch.setattr(recorder, "start", open_run)
    for state in ("miss", "hit"):
        is_open.clear()
        assert run(work).cache == state
    assert recorder.plans == ["miss", "hit"]


def test_a_reuse_is_handled_while_it_is_recorded(run, recorder, monkeypatch):
    """The hook of a reused result is called while the lineage server receives it, and gets the run when that has ended."""
    computed, is_handled, finish, said = run(work), Event(), recorder.finish, []

    class Hooks(RunHooks):
        def on_reused(self, origin, page):
            said.append(origin)
            is_handled.set()

        def on_opened(self, opened, *, is_brief=False):
            said.append((opened.run_id, is_brief, recorder.runs[-1][0]))

    def finish_after_hook(*args):
        assert is_handled.wait(60), "The hook was not called before the end of the run was sent."
        return finish(*args)

    monkeypatch.setattr(recorder, "finish", finish_after_hook)
    assert run(work, run_hooks=Hooks()).cache == "hit"
    assert said == [str(computed.id), ("run-1", True, "finish")]
