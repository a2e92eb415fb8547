"""Promises of `airflow_zen.runs.journal` without MLflow: no record of a step run is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from airflow_zen.lineage.recorder import NullRecorder
from airflow_zen.runs.journal import RunJournal, RunJournals
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports import open_transport
from tests.pruning.conftest import stack_at

# A step that is killed in its function, or before the store has its record.
_STEP = """
import os, signal, sys
from airflow_zen.errors import StoreUnavailable
from airflow_zen.lineage.recorder import NullRecorder
from airflow_zen.runs.journal import RunJournals
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from airflow_zen.transports.local import LocalTransport
from tests.pruning.conftest import stack_at

root, moment = sys.argv[1:]

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def refuse():
    raise StoreUnavailable("full")

def work(depth: int) -> int:
    if moment == "called":
        kill()
    return depth

class Dying(LocalTransport):
    def write(self, key, data):
        if key.startswith("runs/"):
            kill() if moment == "recorded" else refuse()
        super().write(key, data)

stack = stack_at(root, lineage=NullRecorder(RunJournals(LocalTransport(root))))
if moment != "called":
    stack.records._transport = Dying(root)
begun = StepRun(StepRunId("d", "r", "work"), cache=CacheState.MISS)
run_step(Step(work, "work"), Arguments.bind(work, (8,), {}), stack, begun)
"""


def number(x: int) -> int:
    return x


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "root")


@pytest.fixture
def run_next(root):
    """Run another step on the host, on a new stack."""

    def run():
        stack = stack_at(root, lineage=NullRecorder(RunJournals(open_transport(root, {}))))
        begun = StepRun(StepRunId("d", "r", "next"), cache=CacheState.MISS)
        return run_step(Step(number, "next"), Arguments.bind(number, (1,), {}), stack, begun)

    return run


def journals(root):
    return [path.name for path in Path(root, ".staging").iterdir() if "zen-step-" in path.name]


@pytest.mark.parametrize(("moment", "state"), [("called", StepState.KILLED), ("recorded", StepState.FINISHED)])
def test_a_killed_step_has_its_record(root, run_next, moment, state):
    """The record of a step that was killed while it ran, or before its record was stored, is stored by the next step."""
    done = subprocess.run([sys.executable, "-c", _STEP, root, moment], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(journals(root)) == 1
    run_next()
    record = stack_at(root).records.get(StepRunId("d", "r", "work"))
    assert (record.state, record.parameters) == (state, {"depth": 8})
    assert "has no source text" in record.why
    assert ("killed" in record.error) == (moment == "called")
    assert list(stack_at(root).records.undelivered()) == []
    assert journals(root) == []


def test_a_record_that_the_store_refused(root, run_next):
    """The record of a step that succeeded while the store refused it is stored by the next step on the host."""
    subprocess.run([sys.executable, "-c", _STEP, root, "refused"], env={**os.environ}, check=True)
    assert len(journals(root)) == 1
    run_next()
    assert stack_at(root).records.get(StepRunId("d", "r", "work")).state == "FINISHED"
    assert journals(root) == []


def test_no_journal_is_left(root, run_next):
    """A step leaves no journal, whether it computes or reuses."""
    assert [run_next().cache, run_next().cache, journals(root)] == ["miss", "hit", []]


def test_a_host_without_space(root, run_next, monkeypatch, caplog):
    """A journal that cannot be written costs a warning, not the step."""
    monkeypatch.setattr(RunJournal, "create", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run_next().state == "FINISHED"
    assert "its record is lost: [Errno 28] No space left" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"root": "x"}'], ids=["empty", "half", "list", "other"])
def test_an_unreadable_journal_is_set_aside(root, run_next, caplog, content):
    """A journal that cannot be read, after a power loss for example, is set aside and named, once."""
    transport = open_transport(root, {})
    journal = RunJournal.create(StepRun(StepRunId("d", "r", "t")), root, transport.scratch_directory)
    (journal.directory / "run.json").write_bytes(content)
    journal.unlock()
    other = RunJournal.create(StepRun(StepRunId("d", "r", "behind")), root, transport.scratch_directory)
    other.unlock()
    run_next()
    assert f"unreadable-{journal.directory.name}" in caplog.text
    assert stack_at(root).records.get(StepRunId("d", "r", "behind")).state == "KILLED"
    caplog.clear()
    run_next()
    assert "unreadable-" not in caplog.text


def test_an_unreadable_end_of_a_journal(root, run_next):
    """Where the finished record cannot be read, the one from the beginning is stored."""
    transport = open_transport(root, {})
    begun = StepRun(StepRunId("d", "r", "t"))
    journal = RunJournal.create(begun, root, transport.scratch_directory)
    journal.write(replace(begun, state=StepState.FINISHED, ended=1.0), root)
    (journal.directory / "ended.json").write_bytes(b"")
    journal.unlock()
    run_next()
    assert stack_at(root).records.get(begun.id).state == "KILLED"
