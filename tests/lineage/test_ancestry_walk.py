"""Promises of `airflow_zen.lineage.ancestry`: the maker of an input is a run that ended before its reader started."""

from dataclasses import replace

import pytest

from airflow_zen.lineage.ancestry import ancestry_from_records, ancestry_of_content
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId

MINUTE = 60.0


@pytest.fixture
def did(records, ended, dag_id):
    """Keep the record of a step that ran for 2.5 s; a task is `task`, or `task/run` in another DAG run."""

    def keep(task, minute, inputs, outputs, try_number=1, **facts):
        task, _, run_id = task.partition("/")
        ids = StepRunId(dag_id, run_id or "r1", task, try_number=try_number)
        run = StepRun(ids, started=minute * MINUTE, inputs=inputs, **facts)
        run = ended(run, outputs=outputs)
        records.put(run, delivered=False)
        return run

    return keep


@pytest.fixture
def frame(ref):
    """The ref of one content under the name of a task's output."""
    return ref("").with_name


def makers(run, ancestry):
    """List tasks and DAG runs from a run up to its oldest ancestor; fail where one is met again."""
    tree, found = replace(ancestry, runs=(run, *ancestry.runs)).to_dict(), []
    while tree:
        assert "seen" not in tree, found
        found.append(f"{tree['step']}/{tree['run']}")
        (tree,) = [each.get("made_by") for each in tree["inputs"]] or [None]
    return found


def walk(frame, transport):
    ancestry = ancestry_from_records(frame("").digest, transport)
    return makers(ancestry.runs[0], ancestry)


def test_steps_that_return_their_input(did, frame, transport):
    """Steps that pass one content on are a chain, the last of them first."""
    did("load", 1, {}, {"o": frame("load")})
    did("check", 2, {"x": frame("load")}, {"o": frame("check")})
    did("validate", 3, {"x": frame("check")}, {"o": frame("validate")})
    assert walk(frame, transport) == ["validate/r1", "check/r1", "load/r1"]


def test_a_step_that_reads_its_own_earlier_result(did, frame, transport):
    """A step that reads the version that it made in the DAG run before, and returns it, has that run as its maker."""
    did("load/r0", 1, {}, {"o": frame("keep")})
    for number in (1, 2, 3):
        did(f"keep/r{number}", 10 * number, {"x": frame("keep")}, {"o": frame("keep")})
    assert walk(frame, transport) == ["keep/r3", "keep/r2", "keep/r1", "load/r0"]


def test_equal_work_of_later_dag_runs(did, frame, ref, transport):
    """A DAG run that computed the same again later made nothing that an earlier one read."""
    for number in (1, 2):
        did(f"load/r{number}", 10 * number, {}, {"o": frame("load")})
        did(f"check/r{number}", 10 * number + 1, {"x": frame("load")}, {"o": frame("check")})
    did("load/r3", 30, {}, {"o": frame("load")})
    did("check/r3", 31, {"x": frame("load")}, {"o": frame("check")}, cache=CacheState.HIT, origin="o")
    ancestry = ancestry_from_records(frame("").digest, transport)
    assert makers(ancestry.runs[0], ancestry) == ["load/r3"]
    other = ref("last")
    did("last/r2", 22, {"x": frame("check")}, {"o": other})
    last = ancestry_from_records(other.digest, transport)
    assert makers(last.runs[0], last) == ["last/r2", "check/r2", "load/r2"]


def test_a_loop_of_two_steps_over_dag_runs(did, frame, transport):
    """Two steps that read what the other made in the DAG run before are a chain back to the first of them."""
    did("raw/r0", 1, {}, {"o": frame("raw")})
    did("a/r1", 10, {"x": frame("raw")}, {"o": frame("a")})
    did("b/r1", 11, {"x": frame("a")}, {"o": frame("b")})
    did("a/r2", 20, {"x": frame("b")}, {"o": frame("a")})
    did("b/r2", 21, {"x": frame("a")}, {"o": frame("b")})
    assert walk(frame, transport) == ["b/r2", "a/r2", "b/r1", "a/r1", "raw/r0"]


def test_a_run_that_had_not_ended(did, ref, frame, transport):
    """A run that started before the reader and ended after it made nothing that it read; the input is raw."""
    other = ref("read")
    did("slow/r0", 2 - 1 / MINUTE, {}, {"o": frame("elsewhere")})
    did("read", 2, {"x": frame("elsewhere")}, {"o": other})
    ancestry = ancestry_from_records(other.digest, transport)
    assert [run.task_id for run in ancestry.runs] == ["read"]
    assert [artifact.name for artifact in ancestry.raw] == ["elsewhere"]


def test_clocks_that_differ(did, frame, transport):
    """Within a DAG run the run under the name that was read is the maker, also where its host's clock is ahead."""
    did("load", 1, {}, {"o": frame("load")})
    did("check", 1 + 1 / MINUTE, {"x": frame("load")}, {"o": frame("check")})
    assert walk(frame, transport) == ["check/r1", "load/r1"]


def test_a_cleared_task(did, ref, frame, transport):
    """A try after the reader is not its maker; the try before it is."""
    other = ref("check")
    for number in (1, 2):
        did("load", 2 * number, {}, {"o": frame("load")}, try_number=number)
    did("check", 3, {"x": frame("load")}, {"o": other})
    ancestry = ancestry_from_records(other.digest, transport)
    assert [run.started / MINUTE for run in ancestry.runs] == [3, 2]


def test_an_artifact_by_name(did, frame, transport):
    """Of several names for one content the ancestry begins with the run that made the one that is asked for."""
    did("load", 1, {}, {"o": frame("load")})
    did("check", 2, {"x": frame("load")}, {"o": frame("check")})
    for name, run in {"load": "load", "check": "check", "": "check"}.items():
        assert ancestry_from_records(frame("").digest, transport, name).runs[0].task_id == run


@pytest.mark.server
def test_mlflow_has_the_same_chain(did, frame, recorder, rest, transport):
    """MLflow's runs give the same chain as the records."""
    for run in (
        did("load", 1, {}, {"o": frame("load")}),
        did("check", 2, {"x": frame("load")}, {"o": frame("check")}),
        did("validate", 3, {"x": frame("check")}, {"o": frame("validate")}),
    ):
        assert recorder.finish(run, recorder.start(run))
    ancestry = ancestry_of_content(frame("").digest, rest)
    assert makers(ancestry.runs[0], ancestry) == walk(frame, transport)
