"""Pods on the node of tests: real processes, seen by the official client."""

from __future__ import annotations

import itertools
import json
import sys
import time

import psutil
import pytest
from kubernetes import client, watch
from kubernetes.client import ApiException

from tests.servers.kubernetes import Image, kubernetes_cluster

IMAGE = Image("registry/tools:1", f"sha256:{'a' * 64}", environment={"PATH": "/usr/bin:/bin", "FROM_IMAGE": "yes"})
SHELL = ["/bin/sh", "-c"]


@pytest.fixture
def cluster(tmp_path):
    node = {
        "capacity": {"nvidia.com/gpu": "1"},
        "labels": {"pool": "gpu"},
        "taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}],
    }
    with kubernetes_cluster(tmp_path / "node", IMAGE, **node) as running:
        yield running


@pytest.fixture
def api(cluster):
    with cluster.client() as connection:
        yield client.CoreV1Api(connection)


def _pod(script="true", *, container=None, **spec):
    first = {"name": "base", "image": IMAGE.name, "command": SHELL, "args": [script], **(container or {})}
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    spec = {"restartPolicy": "Never", "containers": [first], "tolerations": tolerations, **spec}
    return {"metadata": {"name": "p"}, "spec": spec}


def _until(api, wanted, timeout=20):
    """Return the pod once it is as wanted."""
    deadline = time.monotonic() + timeout
    while not wanted(pod := api.read_namespaced_pod("p", "default")):
        assert time.monotonic() < deadline, pod.status
        time.sleep(0.02)
    return pod


def _ended(api):
    return _until(api, lambda pod: pod.status.phase in ("Succeeded", "Failed"))


def _log(api, **query):
    return _response(api, **query).data.decode()


def _response(api, **query):
    return api.read_namespaced_pod_log("p", "default", _preload_content=False, **query)


def _run(api, *arguments, **options):
    api.create_namespaced_pod("default", _pod(*arguments, **options))
    pod = _ended(api)
    return pod, pod.status.container_statuses[0].state.terminated


def test_a_pod_goes_through_its_phases(api):
    """A watch sees Pending, Running and Succeeded, and the end is complete."""
    stream = watch.Watch().stream(api.list_namespaced_pod, "default", timeout_seconds=20)
    api.create_namespaced_pod("default", _pod("sleep 0.2; echo out; echo err >&2"))
    phases = [event["object"].status.phase for event in itertools.takewhile(_is_not_over, stream)]
    assert [phase for phase, _ in itertools.groupby(phases)] == ["Pending", "Running"]
    status = _ended(api).status
    ended = status.container_statuses[0]
    assert (status.phase, ended.state.terminated.exit_code, ended.state.terminated.reason) == (
        "Succeeded",
        0,
        "Completed",
    )
    assert ended.state.terminated.finished_at >= ended.state.terminated.started_at
    assert ended.image_id == f"registry/tools@{IMAGE.digest}"
    assert _log(api).splitlines() == ["out", "err"]


def _is_not_over(event):
    return event["object"].status.phase not in ("Succeeded", "Failed")


def test_a_failure_has_its_exit_code(api):
    """The exit code of the command is the container's."""
    pod, terminated = _run(api, "exit 3")
    assert (pod.status.phase, terminated.exit_code, terminated.reason) == ("Failed", 3, "Error")


def test_more_memory_than_the_limit_is_an_out_of_memory_kill(api):
    """A container that takes more than its limit is killed, and its reason is OOMKilled."""
    command = [sys.executable, "-c", "import time; taken = bytearray(150_000_000); time.sleep(60)"]
    resources = {"limits": {"memory": "64Mi"}}
    pod, terminated = _run(api, container={"command": command, "args": [], "resources": resources})
    assert (pod.status.phase, terminated.exit_code, terminated.reason) == ("Failed", 137, "OOMKilled")


def test_the_environment_is_the_images_and_the_pods(api):
    """Variables of the image, plain, expanded, of secrets, of config maps and of the pod; none of the test's process."""
    api.create_namespaced_secret("default", {"metadata": {"name": "s"}, "stringData": {"password": "hidden"}})
    api.create_namespaced_config_map("default", {"metadata": {"name": "c"}, "data": {"COLOR": "red"}})
    environment = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)2"},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": True}}},
    ]
    sources = [{"configMapRef": {"name": "c"}, "prefix": "C_"}]
    _run(api, "env", container={"env": environment, "envFrom": sources})
    found = dict(line.split("=", 1) for line in _log(api).splitlines())
    for mine in ("PWD", "SHLVL", "_", "HOSTNAME", "PATH", "OLDPWD"):
        found.pop(mine, None)
    assert found == {
        "FROM_IMAGE": "yes", "A": "1", "B": "12", "NAME": "p", "PASSWORD": "hidden", "C_COLOR": "red"
    }  # fmt: skip


def test_volumes_are_shared_by_containers(api, tmp_path):
    """An init container writes where the container reads; a secret is files. Nothing stays at the mount paths."""
    api.create_namespaced_secret("default", {"metadata": {"name": "s"}, "stringData": {"key": "hidden"}})
    shared, secret = str(tmp_path / "shared"), str(tmp_path / "secret")
    volumes = [{"name": "shared", "emptyDir": {}}, {"name": "secret", "secret": {"secretName": "s"}}]
    mounts = [{"name": "shared", "mountPath": shared}]
    first = {
        "name": "first",
        "image": IMAGE.name,
        "command": [*SHELL, f"echo hello > {shared}/x"],
        "volumeMounts": mounts,
    }
    mounts = [*mounts, {"name": "secret", "mountPath": secret, "readOnly": True}]
    script = f"cat {shared}/x {secret}/key"
    _run(api, script, container={"volumeMounts": mounts}, initContainers=[first], volumes=volumes)
    assert _log(api) == "hello\nhidden"
    assert not (tmp_path / "shared").exists()


def test_a_failed_init_container_fails_the_pod(api):
    """The containers do not start after a failed init container."""
    first = {"name": "first", "image": IMAGE.name, "command": [*SHELL, "exit 4"]}
    api.create_namespaced_pod("default", _pod("echo never", initContainers=[first]))
    status = _ended(api).status
    assert status.init_container_statuses[0].state.terminated.exit_code == 4
    assert status.container_statuses is None


def test_the_log_is_followed_as_it_comes(api):
    """A reader has the first line while the container runs."""
    api.create_namespaced_pod("default", _pod("echo one; sleep 1; echo two"))
    _until(api, lambda pod: pod.status.phase == "Running")
    response = _response(api, follow=True, timestamps=True)
    pieces = response.stream()
    stamp, _, line = next(pieces).decode().partition(" ")
    assert line == "one\n"
    assert stamp.endswith("Z")
    assert api.read_namespaced_pod("p", "default").status.phase == "Running"
    assert b"".join(pieces).endswith(b"two\n")
    assert _log(api, tail_lines=1) == "two\n"


def test_the_log_before_the_start_is_refused(api):
    """A container that waits has no log, and says so."""
    api.create_namespaced_pod("default", _pod(container={"image": "nowhere/none:1"}))
    pod = _until(api, lambda pod: pod.status.container_statuses)
    assert pod.status.phase == "Pending"
    assert pod.status.container_statuses[0].state.waiting.reason == "ErrImagePull"
    with pytest.raises(ApiException, match="waiting to start"):
        _log(api)
    api.delete_namespaced_pod("p", "default")
    _gone(api)


def _gone(api, timeout=20):
    deadline = time.monotonic() + timeout
    while api.list_namespaced_pod("default").items:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_deleted_pod_may_say_goodbye(api, tmp_path):
    """A deleted pod gets SIGTERM, and stays until it has ended."""
    said = tmp_path / "said"
    script = f"trap 'sleep 0.3; echo bye > {said}; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    api.create_namespaced_pod("default", _pod(script))
    _until(api, lambda pod: pod.status.phase == "Running" and "ready" in _log(api))
    answer = api.delete_namespaced_pod("p", "default")
    assert answer.metadata.deletion_grace_period_seconds == 30
    assert api.read_namespaced_pod("p", "default").metadata.deletion_timestamp
    _gone(api)
    assert said.read_text() == "bye\n"


def test_a_deaf_pod_is_killed_after_its_grace(api, tmp_path):
    """What ignores SIGTERM is killed, with all that it started, also in a session of its own."""
    # `$$` is `$` in a pod's arguments.
    pids = tmp_path / "pids"
    script = f"trap '' TERM; setsid sleep 300 & echo $! > {pids}; echo $$$$ >> {pids}; while :; do sleep 0.05; done"
    api.create_namespaced_pod("default", _pod(script))
    _until(api, lambda pod: pids.exists() and len(pids.read_text().split()) == 2)
    api.delete_namespaced_pod("p", "default", grace_period_seconds=1)
    _gone(api)
    deadline = time.monotonic() + 5
    while any(_runs(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_new_pod_of_the_name_of_a_deleted_one(api):
    """A pod that is removed at once makes room for another of its name, which it does not disturb."""
    api.create_namespaced_pod("default", _pod("sleep 300"))
    _until(api, lambda pod: pod.status.phase == "Running")
    api.delete_namespaced_pod("p", "default", grace_period_seconds=0)
    pod, _ = _run(api, "echo second")
    assert pod.status.phase == "Succeeded"


def test_a_killed_container_is_seen(api, cluster):
    """What is killed from outside has exit code 137, and is not taken for out of memory."""
    api.create_namespaced_pod("default", _pod("sleep 300"))
    _until(api, lambda pod: pod.status.phase == "Running")
    cluster.node.kill_container("default", "p", "base")
    terminated = _ended(api).status.container_statuses[0].state.terminated
    assert (terminated.exit_code, terminated.reason) == (137, "Error")


def test_a_container_is_restarted_on_failure(api, tmp_path):
    """`OnFailure` starts a failed container again, and counts; the log before is kept."""
    script = f"if [ -e {tmp_path}/x ]; then echo second; else touch {tmp_path}/x; echo first; exit 1; fi"
    pod, terminated = _run(api, script, restartPolicy="OnFailure")
    status = pod.status.container_statuses[0]
    assert (pod.status.phase, status.restart_count, terminated.exit_code) == ("Succeeded", 1, 0)
    assert status.last_state.terminated.exit_code == 1
    assert (_log(api), _log(api, previous=True)) == ("second\n", "first\n")


def test_a_pod_with_a_deadline(api):
    """A pod that runs longer than its deadline fails for this reason."""
    api.create_namespaced_pod("default", _pod("sleep 300", activeDeadlineSeconds=1))
    status = _ended(api).status
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"nodeSelector": {"pool": "cpu"}}, "didn't match Pod's node affinity/selector"),
        ({"tolerations": []}, "had untolerated taint {gpu: yes}"),
        ({"container": {"resources": {"limits": {"nvidia.com/gpu": "2"}}}}, "Insufficient nvidia.com/gpu"),
        ({"container": {"resources": {"requests": {"memory": "64Gi"}}}}, "Insufficient memory"),
    ],
)
def test_a_pod_that_fits_no_node_waits(api, spec, said):
    """A pod stays Pending, and its condition and an event say why."""
    api.create_namespaced_pod("default", _pod(**spec))
    pod = _until(api, lambda pod: pod.status.conditions)
    assert (pod.status.phase, pod.status.conditions[0].reason) == ("Pending", "Unschedulable")
    assert said in pod.status.conditions[0].message
    events = api.list_namespaced_event("default", field_selector="involvedObject.name=p,reason=FailedScheduling")
    assert said in events.items[0].message


def test_a_pod_with_its_selector_and_resources_runs(api):
    """What the node has can be asked for."""
    resources = {"requests": {"cpu": "500m"}, "limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}}
    pod, _ = _run(api, container={"resources": resources}, nodeSelector={"pool": "gpu"})
    assert pod.status.phase == "Succeeded"
    assert pod.spec.node_name == "node-1"


def _refusal(api, pod):
    with pytest.raises(ApiException) as caught:
        api.create_namespaced_pod("default", pod)
    return caught.value.status, json.loads(caught.value.body)["message"]


@pytest.mark.parametrize(
    ("pod", "code", "said"),
    [
        (_pod(container={"imag": "x"}), 400, 'unknown field "spec.containers[0].imag"'),
        (_pod(container={"name": "Not_a_label"}), 422, "spec.containers.name"),
        (_pod(container={"resources": {"limits": {"memory": "16 GB"}}}), 422, "quantities must match"),
        (_pod(container={"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}), 422, "less than or equal"),
        (_pod(container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), 422, 'Not found: "v"'),
        (_pod(restartPolicy="Sometimes"), 422, "spec.restartPolicy"),
        (_pod(containers=[]), 422, "spec.containers: Required value"),
        (_pod(serviceAccountName="nobody"), 403, 'serviceaccount "nobody" not found'),
    ],
)
def test_a_pod_that_is_refused(api, pod, code, said):
    """A pod that Kubernetes would not take is not taken."""
    found, message = _refusal(api, pod)
    assert found == code
    assert said in message


def test_a_pod_cannot_be_changed(api):
    """The command of a pod stays as it was made; its labels do not."""
    api.create_namespaced_pod("default", _pod("sleep 300"))
    patch = {"spec": {"containers": [{"name": "base", "args": ["exit"]}]}}
    with pytest.raises(ApiException, match="pod updates may not change fields"):
        api.patch_namespaced_pod("p", "default", patch)
    assert api.patch_namespaced_pod("p", "default", {"metadata": {"labels": {"x": "1"}}}).metadata.labels == {"x": "1"}


def test_a_container_waits_for_its_secret(api):
    """A container whose secret is made later starts then."""
    environment = [{"secretRef": {"name": "later"}}]
    api.create_namespaced_pod("default", _pod("echo $WORD", container={"envFrom": environment}))
    pod = _until(api, lambda pod: pod.status.container_statuses)
    assert pod.status.container_statuses[0].state.waiting.reason == "CreateContainerConfigError"
    api.create_namespaced_secret("default", {"metadata": {"name": "later"}, "stringData": {"WORD": "hello"}})
    _ended(api)
    assert _log(api) == "hello\n"


def test_a_command_that_is_not_there(api):
    """A container whose command the image does not have ends with a start error."""
    _, terminated = _run(api, container={"command": ["no-such-command"]})
    assert (terminated.exit_code, terminated.reason) == (128, "StartError")
    assert 'exec: "no-such-command": executable file not found' in terminated.message
