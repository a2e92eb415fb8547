"""Promises of journals with MLflow: nothing that a killed step logged is lost."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from msgspec.structs import replace

from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.sync import sync_pending
from airflow_zen.runs.journal import RunJournal, orphaned_journals
from airflow_zen.runs.step_run import FinishedDagRun, StepState
from airflow_zen.transports import open_transport
from tests.lineage.mlflow.step_process import ENVIRONMENT
from tests.servers.process import free_port

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

# A step that waits at `moment` to be killed; "outage" is inside its function, which waits for the outage.
_STEP = """
import sys, time
from tests.lineage.mlflow.step_process import run_code

*arguments, moment = sys.argv[1:]

def at(name):
    if (name, moment) == ("opened", "outage"):
        import mlflow
        print("opened", flush=True)
        sys.stdin.readline()
    if name == moment or (name, moment) == ("called", "outage"):
        print(moment, flush=True)
        time.sleep(600)

run_code(*arguments, at=at)
"""

_LOGGING = """
import mlflow
mlflow.log_metric("auc", 0.5, step=1)
mlflow.log_metric("auc", 0.9, step=2)
mlflow.log_text("hello", "hello.txt")
mlflow.start_run(nested=True, run_name="fold")
mlflow.log_metric("loss", 1.5)
"""

# Recovers orphans like any step or delivery on the host, and is killed at its n-th write to the store.
_RECOVERY = """
import os, signal, sys
from airflow_zen.transports.local import LocalTransport
from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer

uri, root, last = sys.argv[1:]
left = int(last)

def counted(name):
    do = getattr(LocalTransport, name)
    def write(*args):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return do(*args)
    setattr(LocalTransport, name, write)

for name in ("publish", "write", "delete"):
    counted(name)
print(len(MlflowRecorder(MlflowRest(TrackingServer(uri)), LocalTransport(root), root).recover_orphans()))
"""


@pytest.fixture
def start_step(root, dag_id, tmp_path):
    """Start a step in its own process, which waits at `moment`; kill all of them after the test."""
    processes = []

    def begin(uri, code, moment):
        command = [sys.executable, "-c", _STEP, uri, root, dag_id, code, moment]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, **pipes))
        assert processes[-1].stdout.readline().strip() in {"opened", moment}
        return processes[-1]

    yield begin
    for process in processes:
        kill(process)
        process.communicate()


@pytest.fixture
def away():
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def stopped(server):
    """Stop the session's server; it is started again, with its database, after the test at the latest."""
    yield server.stop
    if not server.healthy():
        server.start()


@pytest.fixture
def runs(client, dag_id):
    """Return what MLflow shows of the DAG's steps and of the runs that their code created."""

    def look():
        experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
        found = client.search_runs([experiment], order_by=["attributes.start_time", "attributes.run_name"])
        return {run.info.run_name: run for run in found if run.data.tags.get("zen.kind") != "dag_run"}

    return look


@pytest.fixture
def left(root):
    """The journals that are still on this host."""
    return lambda: list(Path(root, ".staging").glob("*zen-step-*"))


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def assert_whole(client, runs):
    """Check that what the killed try logged is in its own run once."""
    train, fold = runs["train"], runs["fold"]
    assert (train.info.status, train.data.tags["zen.try"]) == ("KILLED", "1")
    history = client.get_metric_history(train.info.run_id, "auc")
    assert [(metric.value, metric.step) for metric in history] == [(0.5, 1), (0.9, 2)]
    assert train.data.params == {"depth": "8"}
    assert [file.path for file in client.list_artifacts(train.info.run_id)] == ["hello.txt"]
    assert (fold.info.status, fold.data.metrics) == ("KILLED", {"loss": 1.5})
    assert fold.data.tags["mlflow.parentRunId"] == train.info.run_id


@pytest.mark.slow
def test_a_step_is_killed_while_mlflow_is_away(
    server, client, stopped, start_step, new_recorder, records, step, ended, runs, left
):
    """MLflow is killed during a step, and then the step's process: its next try stores and delivers what it logged."""
    process = start_step(server.uri, _LOGGING, "outage")
    stopped()
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "outage\n"
    kill(process)
    again = new_recorder()
    opened = again.start(step(try_number=2))
    finished = ended(step(try_number=2))
    records.put(finished, again.finish(finished, opened))
    again.on_record_stored(finished)
    assert {(run.id.try_number, str(run.state)) for run in records.undelivered()} == {(1, "KILLED"), (2, "FINISHED")}
    assert left() == []
    server.start()
    for _ in range(2):
        assert not sync_pending(new_recorder(), records, time.time).failed
        assert_whole(client, runs())
        assert runs()["train try 2"].info.status == "FINISHED"
        assert len(runs()) == 3


def test_a_step_that_never_saw_mlflow_is_killed(client, away, start_step, new_recorder, records, runs, left):
    """A delivery on the host finds what a killed step logged, without any other step."""
    kill(start_step(away, _LOGGING, "called"))
    assert len(left()) == 1
    assert not sync_pending(new_recorder(), records, time.time).failed
    assert_whole(client, runs())
    assert (len(runs()), left()) == (2, [])


def test_a_step_that_logged_nothing_is_killed(server, start_step, new_recorder, records, step, runs):
    """A killed step has its record, although it logged nothing and MLflow was available all the time."""
    kill(start_step(server.uri, "pass", "called"))
    assert new_recorder().recover_orphans() == (step().id,)
    record = records.get(step().id)
    assert (record.state, record.parameters) == (StepState.KILLED, {"depth": 8})
    assert "killed" in record.error
    records.put_finished_dag_run(FinishedDagRun(step().id.dag_id, "manual__1", StepState.FAILED, time.time()))
    sync_pending(new_recorder(), records, time.time)
    assert [(name, run.info.status) for name, run in runs().items()] == [("train", "KILLED")]


@pytest.mark.parametrize("moment", ["sent", "recorded"])
def test_a_step_is_killed_at_its_end(away, start_step, new_recorder, records, step, runs, left, moment):
    """A step that had finished is recorded as finished, however little was written when its process was killed."""
    kill(start_step(away, "pass", moment))
    assert new_recorder().recover_orphans() == (step().id,)
    assert records.get(step().id).ended == 1_700_000_009.0
    sync_pending(new_recorder(), records, time.time)
    assert [(name, run.info.status) for name, run in runs().items()] == [("train", "FINISHED")]
    assert left() == []


def test_a_running_step_is_left_alone(away, start_step, new_recorder, records, step):
    """The journal of a running process is never recovered, however long it writes nothing."""
    process = start_step(away, "pass", "called")
    assert new_recorder().recover_orphans() == ()
    assert list(records.undelivered()) == []
    kill(process)
    assert new_recorder().recover_orphans() == (step().id,)


def test_many_recover_at_once(transport, root, new_recorder, records, step):
    """Of several processes that find an orphaned journal, one recovers it."""
    orphans = [step(map_index=index) for index in range(5)]
    for run in orphans:
        RunJournal.create(run, root, transport.scratch_directory).unlock()
    start = Barrier(8)

    def recover_orphans(_):
        recorder = new_recorder()
        start.wait()
        return recorder.recover_orphans()

    with ThreadPoolExecutor(8) as pool:
        taken = [run for found in pool.map(recover_orphans, range(8)) for run in found]
    assert sorted(taken, key=str) == [run.id for run in orphans]
    assert len(list(records.undelivered())) == 5


def test_recovery_is_killed(client, server, away, root, start_step, new_recorder, records, runs, left):
    """A process that is killed at any write of a recovery leaves everything to the next one."""
    kill(start_step(away, _LOGGING, "called"))
    # Before the outbox, the record and the marker are written; then nothing happens to it.
    for number, code in [(0, -signal.SIGKILL), (1, -signal.SIGKILL), (1, -signal.SIGKILL), (9, 0)]:
        command = [sys.executable, "-c", _RECOVERY, server.uri, root, str(number)]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert done.stdout == "1\n"
    assert not sync_pending(new_recorder(), records, time.time).failed
    assert_whole(client, runs())
    assert left() == []


def test_another_root(tmp_path, transport, root, rest, records, step):
    """A journal of another artifact root is left for a process with that root."""
    other = str(tmp_path / "other")
    RunJournal.create(step(), other, transport.scratch_directory).unlock()
    assert MlflowRecorder(rest, transport, root).recover_orphans() == ()
    mine = open_transport(other, {})
    mine.scratch_directory = transport.scratch_directory
    assert MlflowRecorder(rest, mine, other).recover_orphans() == (step().id,)


def test_the_store_is_away(transport, root, new_recorder, records, step, ended):
    """A record that the store refused is kept, and stored by the next process on the host."""
    recorder = new_recorder()
    finished = ended(step())
    recorder.finish(finished, recorder.start(step()))
    del recorder
    assert new_recorder().recover_orphans() == (step().id,)
    assert records.get(step().id) == replace(finished)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user(transport, root, new_recorder, step):
    """Files of another user in the temporary directory are not touched."""
    journal = RunJournal.create(step(), root, transport.scratch_directory)
    journal.unlock()
    os.chown(journal.directory, 12_345, 12_345)
    assert list(orphaned_journals(transport.scratch_directory)) == []
    assert new_recorder().recover_orphans() == ()
