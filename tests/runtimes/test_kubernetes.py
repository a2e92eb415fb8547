"""Promises of the runtime `Kubernetes`: a step in a pod of the cluster of tests."""

from __future__ import annotations

import json
import threading
import traceback

import pytest
from airflow.providers.cncf.kubernetes.secret import Secret
from kubernetes.client import (
    V1Container,
    V1EnvVar,
    V1ObjectMeta,
    V1Pod,
    V1PodSpec,
    V1Toleration,
    V1Volume,
    V1VolumeMount,
)

from airflow_zen import load
from airflow_zen.runtimes import Kubernetes
from tests.runtimes.pods import IMAGE, SUM, step
from tests.runtimes.worker import until


def test_a_step_runs_in_a_pod(run_pod, api, root, capfd):
    """The function runs in a pod, with the helpers of its file; its prints and records are in the log, and no pod stays."""
    run = run_pod(
        """
@ml_step
def where(value: int) -> Output(pod=str, scaled=int):
    print("a print")
    logging.getLogger("user").warning("a record")
    return os.environ["HOSTNAME"], scaled(value)

@dag(schedule=None)
def pipeline():
    where(2)
"""
    )
    assert run.states == {"where": "success"}, run.tasks[-1].error
    found = {name: load(wire) for name, wire in run.xcom("where").items()}
    assert found["scaled"] == 6
    assert found["pod"].startswith("pipeline-where-")
    assert "a print" in capfd.readouterr().out
    assert api.list_namespaced_pod("default").items == []
    assert api.list_namespaced_secret("default").items == []
    assert not [path for path in (root / "runtimes").rglob("*") if path.is_file()]


def test_a_hit_starts_no_pod(run_pod, cluster):
    """A second run of the same step asks the cluster for nothing."""
    first = run_pod(SUM)
    assert load(first.xcom("total")) == 3
    cluster.requests.clear()
    second = run_pod(SUM, run_id="manual__2")
    assert second.xcom("total")["digest"] == first.xcom("total")["digest"]
    assert cluster.requests == []


def test_a_failure_is_the_functions(run_pod, api):
    """The error has its class, its message and the lines of the user's code; no pod stays."""
    run = run_pod(step("raise KeyError('what is missing')"))
    error = run.task("work").error
    assert run.states == {"work": "failed"}
    assert isinstance(error, KeyError)
    assert error.args == ("what is missing",)
    assert "raise KeyError" in "".join(traceback.format_exception(error))
    assert api.list_namespaced_pod("default").items == []


def test_out_of_memory_is_said_and_the_next_try_has_more(run_pod):
    """A step that takes more than its limit says so; the second try has the second limit."""
    text = step("taken = bytearray(150_000_000)\ntime.sleep(1)\nreturn len(taken)")
    runtime = Kubernetes(IMAGE, memory=("100Mi", "1Gi"))
    error = run_pod(text, runtime).task("work").error
    assert "out of memory, limit 100Mi" in str(error)
    assert run_pod(text, runtime, try_number=2).states == {"work": "success"}


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (Kubernetes("registry.test/empty:1"), "has no airflow_zen.runner: install airflow-provider-zen"),
        (Kubernetes("registry.test/tools:1"), "cannot start 'python'"),
        (Kubernetes("registry.test/none:1"), "ErrImagePull"),
        (Kubernetes(IMAGE, service_account="nobody"), 'serviceaccount "nobody" not found'),
        (Kubernetes(IMAGE, memory="64Gi", startup_timeout=1), "Insufficient memory"),
        (Kubernetes(IMAGE, namespace="nowhere"), 'namespaces "nowhere" not found'),
        (Kubernetes(IMAGE, kubernetes_conn_id="none"), "Set up the connection 'none'"),
    ],
)
def test_what_keeps_a_step_from_its_pod_is_said(run_pod, api, root, runtime, said):
    """A pod that cannot run the step fails it with the reason, and does not stay."""
    run = run_pod(SUM, runtime)
    assert said in str(run.task("total").error)
    assert api.list_namespaced_pod("default").items == []
    assert not [path for path in (root / "runtimes").rglob("*") if path.is_file()]


def test_the_pod_is_as_the_user_describes_it(run_pod, api, cluster, tmp_path):
    """Resources, selectors, secrets, volumes, and a pod that overrides them; credentials of the step are not in it."""
    api.create_namespaced_secret("default", {"metadata": {"name": "team"}, "stringData": {"WORD": "hello"}})
    api.create_namespaced_secret("default", {"metadata": {"name": "db"}, "stringData": {"key": "hidden"}})
    mount = str(tmp_path / "mounted")
    runtime = Kubernetes(
        IMAGE,
        cpu="500m",
        memory="1Gi",
        node_selector={"kubernetes.io/os": "linux"},
        tolerations=[V1Toleration(key="gpu", operator="Exists")],
        secrets=["team", Secret("env", "DB_KEY", "db", "key")],
        volumes=[V1Volume(name="shared", empty_dir={})],
        volume_mounts=[V1VolumeMount(name="shared", mount_path=mount)],
        environment={"COLOR": "red"},
        pod_override=V1Pod(
            metadata=V1ObjectMeta(labels={"team": "ml"}),
            spec=V1PodSpec(containers=[V1Container(name="base", env=[V1EnvVar(name="MORE", value="yes")])]),
        ),
        on_finish_action="keep_pod",
    )
    names = ("WORD", "DB_KEY", "COLOR", "MORE")
    body = f"open({mount + '/x'!r}, 'w').close()\nprint([os.environ[name] for name in {names}])\nreturn value"
    run = run_pod(step(body), runtime)
    assert run.states == {"work": "success"}, run.task("work").error
    (pod,) = api.list_namespaced_pod("default", label_selector="team=ml,dag_id=pipeline,task_id=work").items
    (container,) = pod.spec.containers
    assert container.resources.limits == container.resources.requests == {"cpu": "500m", "memory": "1Gi"}
    assert pod.spec.tolerations[0].key == "gpu"
    log = api.read_namespaced_pod_log(pod.metadata.name, "default", _preload_content=False).data.decode()
    assert "['hello', 'hidden', 'red', 'yes']" in log


def test_credentials_are_in_a_secret_of_the_pod(run_pod, api, tmp_path, monkeypatch):
    """A password of MLflow reaches the step by a secret that belongs to its pod, and is not in the pod."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    go = tmp_path / "go"
    seen = []

    def look():
        until(lambda: [pod for pod in api.list_namespaced_pod("default").items if pod.status.phase == "Running"])
        (pod,), (secret,) = api.list_namespaced_pod("default").items, api.list_namespaced_secret("default").items
        seen.append(
            (json.dumps(pod.to_dict(), default=str), secret.metadata.owner_references[0].uid == pod.metadata.uid)
        )
        go.touch()

    thread = threading.Thread(target=look)
    thread.start()
    body = (
        f"while not os.path.exists({str(go)!r}): time.sleep(0.05)\nreturn len(os.environ['MLFLOW_TRACKING_PASSWORD'])"
    )
    run = run_pod(step(body))
    thread.join()
    assert load(run.xcom("work")) == len("hidden"), run.task("work").error
    ((pod, is_owned),) = seen
    assert is_owned
    assert "hidden" not in pod
    assert "http://127.0.0.1:1" in pod
    assert api.list_namespaced_secret("default").items == []


def test_without_credentials_there_is_no_secret(run_pod, cluster):
    """A step that needs none asks for no right to make secrets."""
    assert run_pod(SUM).states == {"total": "success"}
    assert [path for method, path in cluster.requests if "secrets" in path] == []
