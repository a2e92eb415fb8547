"""Promises of `airflow_zen.steps.materialize`: outputs become versions of their names."""

import json
from pathlib import Path
from typing import Annotated

import pytest
from msgspec.structs import replace

from airflow_zen import Artifact, Each, Output
from airflow_zen.artifacts.ref import RecordedVersion
from airflow_zen.errors import ArtifactNotFound
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step


def number(n: int) -> int:
    return n


def features(n: int) -> Annotated[int, Artifact("features")]:
    return n


def split(n: int) -> Output(train=Annotated[int, Artifact("flights/train")], test=int):
    return n, -n


def parts(n: int) -> Annotated[list[int], Each]:
    return list(range(n))


def fails(n: int) -> Annotated[int, Artifact("features")]:
    raise ValueError(n)


@pytest.fixture
def step(stack):
    """Run a function as the task `t` of the DAG `d`; each call is another DAG run."""
    calls = iter(range(1, 1000))

    def run(function, n, map_index=-1):
        run_id = StepRunId("d", f"r{next(calls)}", "t", map_index)
        step = Step(function, "t")
        return run_step(step, Arguments.bind(function, (n,), {}), stack, StepRun(run_id, cache=CacheState.MISS))

    return run


def contents(stack, name):
    return [json.loads(stack.store.manifest(v.ref).inline["value.json"]) for v in stack.names.versions(name)]


def test_an_output_is_a_version_of_dag_and_task(step, stack):
    """An output is the newest version of `dag/task`, with the run that made it."""
    run = step(number, 5)
    newest = stack.names.get("d/t")
    assert (newest.ref.digest, newest.origin, newest.dag_run) == (
        run.outputs["output"].digest,
        "d/r1/t/-1/1",
        "d/r1",
    )
    assert run.versions == {"output": RecordedVersion(newest.version, changed=True)}


def test_an_output_has_the_declared_name(step, stack):
    """`Artifact("features")` names the artifact, in the ref and in its versions; the others keep the task's name."""
    assert step(features, 5).outputs["output"].name == "features"
    run = step(split, 5)
    assert {name: ref.name for name, ref in run.outputs.items()} == {"train": "flights/train", "test": "d/t.test"}
    assert [version.name for version in stack.names.newest_versions()] == ["d/t.test", "features", "flights/train"]


def test_only_new_content_is_a_version(step, stack):
    """A hit with the newest content makes no version; content that comes back from the cache makes one."""
    runs = [step(features, n) for n in (1, 1, 2, 1)]
    assert [run.cache for run in runs] == ["miss", "hit", "miss", "hit"]
    assert [run.versions["output"].changed for run in runs] == [True, False, True, True]
    assert contents(stack, "features") == [1, 2, 1]
    assert runs[3].outputs["output"].name == "features"


def test_instances_of_a_mapped_step_have_histories_of_their_own(step, stack):
    """Each instance of a mapped step has a name with its index, so that equal content makes no version in the next run."""
    for _ in range(2):
        for index in range(3):
            run = step(features, index * 10, index)
    assert run.versions["output"].changed is False
    assert [version.name for version in stack.names.newest_versions()] == ["features[0]", "features[1]", "features[2]"]
    assert contents(stack, "features[2]") == [20]


def test_elements_of_a_list_are_not_kept_by_name(step, stack):
    """Elements of a list marked `Each` have no versions."""
    assert step(parts, 3).versions == {}
    assert stack.names.newest_versions() == []


def test_a_failed_step_makes_no_version(step, stack):
    """A step that raises an error adds no version."""
    with pytest.raises(ValueError, match="5"):
        step(fails, 5)
    with pytest.raises(ArtifactNotFound):
        stack.names.get("features")


def test_a_store_that_refuses_versions_fails_no_step(step, stack, caplog):
    """A step whose version cannot be written succeeds, and its log says so."""
    (Path(stack.store.root) / "names").write_text("in the way")
    run = step(features, 5)
    assert (run.state, run.versions) == (StepState.FINISHED, {})
    assert "'features' has no new version" in caplog.text


def test_the_record_tells_the_version(step, stack):
    """The step run record has the label and whether the content changed; a record without them is still read."""
    run = step(features, 5)
    read = stack.records.get(run.id)
    assert read.versions == run.versions
    document = replace(run, versions={}).to_json()
    del document["versions"]
    assert StepRun.from_json(document).versions == {}
