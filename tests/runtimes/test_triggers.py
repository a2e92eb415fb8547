"""Promises of the trigger that waits for a step's pod: it outlives its triggerer, keeps the lease, and ends cleared runs."""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from airflow_zen import load
from airflow_zen.artifacts.leases import LeaseRecords
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId, StepState
from airflow_zen.runtimes import Kubernetes
from tests.runtimes.pods import IMAGE, deferral_of, step
from tests.runtimes.triggers import resumption
from tests.runtimes.worker import until

DEFERRED = Kubernetes(IMAGE, deferrable=True)
PODS = ("POST", "/api/v1/namespaces/default/pods")


@pytest.fixture
def go(tmp_path):
    """A file whose absence lets the step wait."""
    return tmp_path / "go"


@pytest.fixture
def waits(go):
    """A DAG whose step waits for that file."""
    return step(f"while not os.path.exists({str(go)!r}):\n    time.sleep(0.02)\nreturn value")


@pytest.fixture
def states(server, monkeypatch):
    """Look up the states of the runs of a DAG run in MLflow, by try."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    client = MlflowClient(server.uri)

    def find(run_id):
        experiments = [each.experiment_id for each in client.search_experiments()]
        found = client.search_runs(experiments, f"tags.`zen.key` LIKE 'pipeline/{run_id}/work/-1/%'")
        return {run.data.tags["zen.key"].rpartition("/")[2]: run.info.status for run in found}

    return find


def test_a_killed_triggerer_finds_the_pod_again(run_pod, start_process, connections, cluster, go, waits, tmp_path):
    """After kill -9 of triggerers, the next one waits for the same pod; there is no second one."""
    deferred, event, moments = run_pod(waits, DEFERRED).task("work"), tmp_path / "event", random.Random(4)
    asked = {"trigger": deferral_of(deferred), "connections": connections, "path": str(event)}
    for _ in range(10):
        cluster.requests.clear()
        triggerer = start_process(**asked)
        time.sleep(moments.uniform(0, 2))
        triggerer.kill()
    start_process(**asked)
    until(lambda: [path for method, path in cluster.requests if method == "GET" and "/pods/" in path])
    assert PODS not in cluster.requests
    go.touch()
    until(event.exists)
    run = run_pod(waits, DEFERRED, resumed=resumption("resume", json.loads(event.read_text())))
    assert run.states == {"work": "success"}, run.task("work").error
    assert load(run.xcom("work")) == 2
    assert PODS not in cluster.requests


def test_a_trigger_renews_the_lease(run_pod, trigger, go, waits, monkeypatch):
    """The lease of a deferred step lasts while a triggerer waits for the pod."""
    monkeypatch.setattr("airflow_zen.runtimes.triggers._HEARTBEAT", 0.1)
    deferred = run_pod(waits, DEFERRED).task("work")
    stack = open_stack(lineage=False)
    lease = stack.records.get_suspended(StepRunId("pipeline", "manual__1", "work")).lease
    records = LeaseRecords(stack.store.transport, lease.folder, first=lease.first)
    before = records.read(lease.number).beat
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(trigger, deferred)
        until(lambda: records.read(lease.number).beat > before + 2)
        go.touch()
        resumed = waiting.result()
    assert run_pod(waits, DEFERRED, resumed=resumed).states == {"work": "success"}
    assert list(stack.records.suspended()) == []


def test_the_log_comes_while_the_pod_runs(run_pod, trigger, go, monkeypatch, caplog, capfd):
    """What the pod logs is in the log of the trigger while it waits; the resumed task logs only what came after that."""
    monkeypatch.setattr("airflow_zen.runtimes.triggers._LOG_INTERVAL", 0.1)
    caplog.set_level("INFO")
    text = step(f"""
print("a print")
logging.getLogger("mine").warning("a record")
while not os.path.exists({str(go)!r}):
    time.sleep(0.02)
print("the end")
return value""")
    deferred = run_pod(text, DEFERRED).task("work")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(trigger, deferred)
        until(lambda: "a record" in caplog.text)
        assert "a print" in caplog.text
        go.touch()
        resumed = waiting.result()
    caplog.clear()
    capfd.readouterr()
    assert run_pod(text, DEFERRED, resumed=resumed).states == {"work": "success"}
    shown = caplog.text + capfd.readouterr().out
    assert "a record" not in shown
    assert "a print" not in shown


@pytest.mark.server
def test_a_cleared_step_is_ended_by_its_trigger(run_pod, trigger, api, states, waits):
    """When a user clears or marks a deferred task, its pod is deleted, and its run is killed, in MLflow too."""
    deferred = run_pod(waits, DEFERRED, run_id="manual__cleared").task("work")
    assert states("manual__cleared") == {"1": "RUNNING"}
    trigger(deferred, is_killed=True)
    assert states("manual__cleared") == {"1": "KILLED"}
    record = open_stack(lineage=False).records.get(StepRunId("pipeline", "manual__cleared", "work"))
    assert record.state is StepState.KILLED
    until(lambda: not api.list_namespaced_pod("default").items)


@pytest.mark.server
def test_a_cleared_step_is_ended_by_its_next_try(run_pod, cluster, states, go, waits):
    """Where no triggerer saw the clear, the next try ends the run of the cleared one, and takes its pod."""
    run_pod(waits, DEFERRED, run_id="manual__unseen")
    go.touch()
    run = run_pod(waits, run_id="manual__unseen", try_number=2, max_tries=1)
    assert run.states == {"work": "success"}, run.task("work").error
    assert states("manual__unseen") == {"1": "KILLED", "2": "FINISHED"}
    assert cluster.requests.count(PODS) == 1
