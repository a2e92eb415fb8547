"""Promises of a step's pod: who finds it again, who ends it, and who waits for it."""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import suppress

import pytest
from mlflow import MlflowClient

from airflow_zen import load
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.runtimes import Kubernetes
from tests.runtimes.moments import moments
from tests.runtimes.pods import FULL_IMAGE, HEADER, IMAGE, SUM, connection_text, step
from tests.runtimes.worker import until
from tests.servers.kubernetes.errors import ApiError

DEFERRED = Kubernetes(IMAGE, deferrable=True)


def test_a_killed_worker_leaves_its_pod_to_the_next_try(run_pod, start_task, api, tmp_path):
    """After kill -9 of the worker the next try waits for the pod that runs, and takes its result; there is no second one."""
    calls, go = tmp_path / "calls", tmp_path / "go"
    text = step(f"""
open({str(calls)!r}, "a").write("called ")
while not os.path.exists({str(go)!r}):
    time.sleep(0.05)
return value""")
    task = start_task(text)
    until(calls.exists)
    task.kill()
    threading.Timer(2, go.touch).start()
    run = run_pod(text, try_number=2)
    assert run.states == {"work": "success"}, run.task("work").error
    assert calls.read_text() == "called "
    assert load(run.xcom("work")) == 2
    assert api.list_namespaced_pod("default").items == []


def test_a_result_that_nobody_read_is_taken(run_pod, start_task, api, tmp_path):
    """A pod that has ended well while its worker was dead is not run again."""
    calls = tmp_path / "calls"
    text = step(f"open({str(calls)!r}, 'a').write('called '); time.sleep(1)\nreturn value")
    task = start_task(text)
    until(calls.exists)
    task.kill()
    until(lambda: [pod.status.phase for pod in api.list_namespaced_pod("default").items] == ["Succeeded"])
    assert run_pod(text, try_number=2).states == {"work": "success"}
    assert calls.read_text() == "called "


def test_a_pod_of_other_code_is_replaced(run_pod, start_task, api, tmp_path):
    """A pod that a killed worker left is ended when the step has changed since; two never run at once."""
    calls = tmp_path / "calls"
    task = start_task(step(f"open({str(calls)!r}, 'a').write('first ')\ntime.sleep(300)\nreturn value"))
    until(calls.exists)
    task.kill()
    (old,) = api.list_namespaced_pod("default").items
    run = run_pod(step(f"open({str(calls)!r}, 'a').write('second ')\nreturn value"), try_number=2)
    assert run.states == {"work": "success"}, run.task("work").error
    assert calls.read_text() == "first second "
    assert old.metadata.uid not in [pod.metadata.uid for pod in api.list_namespaced_pod("default").items]


def test_a_killed_task_ends_its_pod(start_task, api, tmp_path):
    """SIGTERM of the task reaches the function, which cleans up; no pod stays."""
    began, cleaned = tmp_path / "began", tmp_path / "cleaned"
    task = start_task(
        step(f"""
try:
    open({str(began)!r}, "w").close()
    time.sleep(300)
finally:
    open({str(cleaned)!r}, "w").close()
return value""")
    )
    until(began.exists)
    task.kill(signal.SIGTERM)
    assert cleaned.exists()
    until(lambda: not api.list_namespaced_pod("default").items)


def test_an_evicted_pod_goes_on_in_the_next_try(run_pod, cluster, api, tmp_path):
    """A pod that the cluster evicts fails the step with these words; the next try begins with its checkpoint."""
    began = tmp_path / "began"

    def evict():
        until(began.exists)
        (pod,) = api.list_namespaced_pod("default").items
        options = {"metadata": {"name": pod.metadata.name}, "deleteOptions": {"gracePeriodSeconds": 0}}
        api.create_namespaced_pod_eviction(pod.metadata.name, "default", options)

    text = step(f"""
from airflow_zen import checkpoint
ckpt = checkpoint()
if (state := ckpt.latest()) is None:
    ckpt.save(value, step=7)
    open({str(began)!r}, "w").close()
    time.sleep(300)
return state + ckpt.step""")
    thread = threading.Thread(target=evict)
    thread.start()
    run = run_pod(text)
    thread.join()
    assert "which was deleted" in str(run.task("work").error)
    run = run_pod(text, try_number=2)
    assert run.states == {"work": "success"}, run.task("work").error
    assert load(run.xcom("work")) == 9


def test_a_deferred_step_leaves_its_worker(run_pod, trigger, api, cluster):
    """The task is deferred when its pod has started, and resumed with the result when it has ended; no pod stays."""
    text = step("time.sleep(0.5)\nlog_metadata({'rows': 3})\nreturn value + 1")
    first = run_pod(text, DEFERRED)
    assert first.states == {"work": "deferred"}
    assert len(api.list_namespaced_pod("default").items) == 1
    second = run_pod(text, DEFERRED, resumed=trigger(first.task("work")))
    assert second.states == {"work": "success"}, second.task("work").error
    assert load(second.xcom("work")) == 3
    assert cluster.requests.count(("POST", "/api/v1/namespaces/default/pods")) == 1
    assert api.list_namespaced_pod("default").items == []


def test_a_deferred_failure_is_the_functions(run_pod, trigger, api):
    """The error of a deferred step is raised when it is resumed."""
    text = step("raise KeyError('what is missing')")
    run = run_pod(text, DEFERRED, resumed=trigger(run_pod(text, DEFERRED).task("work")))
    assert isinstance(run.task("work").error, KeyError)
    assert api.list_namespaced_pod("default").items == []


def test_a_deferred_pod_that_is_gone_is_not_started_again(run_pod, trigger, api, cluster):
    """A pod that somebody deletes while its task is deferred fails the task."""
    text = step("time.sleep(300)")
    deferred = run_pod(text, DEFERRED).task("work")
    (pod,) = api.list_namespaced_pod("default").items
    api.delete_namespaced_pod(pod.metadata.name, "default", grace_period_seconds=0)
    run = run_pod(text, DEFERRED, resumed=trigger(deferred))
    assert "which was deleted" in str(run.task("work").error)
    assert cluster.requests.count(("POST", "/api/v1/namespaces/default/pods")) == 1


def test_a_deferred_pod_that_does_not_start_is_deleted(run_pod, trigger, api):
    """The reason is said when the trigger gives up."""
    runtime = Kubernetes(IMAGE, memory="64Gi", startup_timeout=1, deferrable=True)
    run = run_pod(SUM, runtime, resumed=trigger(run_pod(SUM, runtime).task("total")))
    assert "Insufficient memory" in str(run.task("total").error)
    assert api.list_namespaced_pod("default").items == []


def test_a_result_that_came_meanwhile_is_reused(run_pod, trigger, api, root, monkeypatch):
    """A deferred step whose lease another run took when it was stale takes the result of that, and its own pod does not stay."""
    monkeypatch.setattr("airflow_zen.artifacts.leases._SUSPENDED_SECONDS", 0.5)
    first = run_pod(SUM, DEFERRED)
    event = trigger(first.task("total"))
    run_pod(SUM, run_id="manual__2")
    run = run_pod(SUM, DEFERRED, resumed=event)
    assert run.states == {"total": "success"}
    assert load(run.xcom("total")) == 3
    assert api.list_namespaced_pod("default").items == []
    assert not [path for path in (root / "runtimes").rglob("*") if path.is_file()]


@pytest.mark.server
def test_a_deferred_step_is_one_run_of_mlflow(run_pod, trigger, server, monkeypatch):
    """The run in MLflow is open while the task is deferred, gets what the pod logs, and ends with the resumed task."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    text = step("import mlflow\nmlflow.log_metric('loss', 0.25)\nreturn value")
    runtime = Kubernetes(FULL_IMAGE, deferrable=True)
    first = run_pod(text, runtime, run_id="manual__deferred")
    client = MlflowClient(server.uri)

    def found():
        experiments = [each.experiment_id for each in client.search_experiments()]
        key = "tags.`zen.key` = 'pipeline/manual__deferred/work/-1/1'"
        return client.search_runs(experiments, key)

    assert [run.info.status for run in found()] == ["RUNNING"]
    second = run_pod(text, runtime, run_id="manual__deferred", resumed=trigger(first.task("work"), seconds=200))
    assert second.states == {"work": "success"}, second.task("work").error
    (run,) = found()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 0.25
    assert run.data.params["value"] == "2"


_TWO_STEPS = """
@ml_step
def make(value: int) -> list[int]:
    time.sleep(0.5)
    return [value, value + 1]

@ml_step
def total(values: list[int]) -> int:
    return sum(values)

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def pipeline():
    total(make(2))
"""


@pytest.mark.airflow
def test_airflow_defers_and_resumes_steps(run_dag_test, load_dag_file, root, cluster, monkeypatch):
    """In Airflow's own loop of tasks and triggers each step is deferred once, in one pod, and resumed with its result."""
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", connection_text(cluster))
    pipeline = load_dag_file(HEADER + _TWO_STEPS).pipeline()
    run = run_dag_test(pipeline, run_conf={"zen": {"runtime": repr(DEFERRED)}})
    assert run.state == "success"
    records = open_stack(lineage=False).records
    result = records.get(StepRunId("pipeline", run.run_id, "total")).outputs["output"]
    assert load(result) == 5
    assert cluster.requests.count(("POST", "/api/v1/namespaces/default/pods")) == 2


def _nothing_stays(api, root):
    """Whether no pod, no secret and no object of a pod is left."""
    left = [*api.list_namespaced_pod("default").items, *api.list_namespaced_secret("default").items]
    return not left and not [path for path in (root / "runtimes").rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_task_killed_at_any_moment(run_pod, start_task, api, root, tmp_path):
    """After kill -9 of a task the next try has the right result; two functions never run at once, and nothing stays."""
    alone = tmp_path / "alone"
    for number, moment in enumerate(moments(0.1, 2.5, seed=7)):
        text = step(f"""
os.close(os.open({str(alone)!r}, os.O_CREAT | os.O_EXCL))
time.sleep(0.5)
os.remove({str(alone)!r})
return value + {number}""")
        task = start_task(text, run_id=f"manual__{number}")
        time.sleep(moment)
        task.kill()
        run = run_pod(text, run_id=f"manual__{number}", try_number=2)
        assert run.states == {"work": "success"}, run.task("work").error
        assert load(run.xcom("work")) == 2 + number
        assert _nothing_stays(api, root)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_container_killed_at_any_moment(run_pod, cluster, api, root):
    """After kill -9 of a step's container its task fails and says so, the next try succeeds, and nothing stays."""

    def kill(moment):
        def running():
            return [pod for pod in api.list_namespaced_pod("default").items if pod.status.phase == "Running"]

        (pod,) = until(running)
        time.sleep(moment)
        # It may have ended meanwhile.
        with suppress(KeyError, ApiError):
            cluster.node.kill_container("default", pod.metadata.name, "base")

    for number, moment in enumerate(moments(0, 1, seed=8)):
        text = step(f"time.sleep(0.5)\nreturn value + {number}")
        killer = threading.Thread(target=kill, args=[moment])
        killer.start()
        run = run_pod(text, run_id=f"manual__{number}")
        killer.join()
        if run.states != {"work": "success"}:
            assert "lost the step's process to SIGKILL" in str(run.task("work").error)
            run = run_pod(text, run_id=f"manual__{number}", try_number=2)
        assert load(run.xcom("work")) == 2 + number
        assert _nothing_stays(api, root)


@pytest.mark.server
def test_a_pod_reaches_a_bucket_by_the_connection(run_pod, connections, cluster, api, moto, monkeypatch):
    """Spec, artifacts and answer are in a bucket, which the pod opens with the credentials of Airflow's connection."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", f"{moto.root}/of-pods")
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID", "bucket")
    extra = json.dumps({"endpoint_url": moto.endpoint, "region_name": "us-east-1"})
    login = {"conn_type": "aws", "login": moto.access_key, "password": moto.secret_key, "extra": extra}
    connections["bucket"] = {**dict.fromkeys(("host", "schema", "port")), **login}
    run = run_pod(step("return value + 1"), Kubernetes(FULL_IMAGE))
    assert run.states == {"work": "success"}, run.task("work").error
    assert run.xcom("work")["uri"].startswith(f"{moto.root}/of-pods/artifacts/")
    assert ("POST", "/api/v1/namespaces/default/secrets") in cluster.requests
    listed = moto.client().list_objects_v2(Bucket=moto.bucket, Prefix="of-pods/runtimes/")
    assert listed["KeyCount"] == 0
    assert api.list_namespaced_secret("default").items == []
