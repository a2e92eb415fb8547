"""Pods whose containers are those of a Docker engine."""

from __future__ import annotations

import time

import pytest
from kubernetes.client import CoreV1Api

from tests.servers.docker_engine import BUSYBOX
from tests.servers.kubernetes import Image, kubernetes_cluster
from tests.servers.kubernetes.engine import DockerContainers


@pytest.fixture
def api(docker_engine, tmp_path):
    image = Image(BUSYBOX, f"sha256:{'a' * 64}", environment={"PATH": "/bin"})
    engine = DockerContainers(docker_engine.client)
    with kubernetes_cluster(tmp_path, image, engine=engine) as cluster, cluster.client() as connection:
        yield CoreV1Api(connection)


def _ended(api, script, **container):
    """Run a pod; return how its container ended."""
    container = {"name": "base", "image": BUSYBOX, "command": ["/bin/sh", "-c", script], **container}
    volumes = [{"name": "shared", "emptyDir": {}}]
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    api.create_namespaced_pod("default", {"metadata": {"name": "p"}, "spec": spec})
    deadline = time.monotonic() + 60
    while (pod := api.read_namespaced_pod("p", "default")).status.phase not in ("Succeeded", "Failed"):
        assert time.monotonic() < deadline, pod.status
        time.sleep(0.05)
    return pod.status.container_statuses[0].state.terminated


def test_a_pod_in_a_container(api, docker_engine):
    """The command runs in a container with the pod's environment and volumes; its code and log are the pod's."""
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    environment = [{"name": "WORD", "value": "hello"}]
    script = "echo $WORD > /shared/x; cat /shared/x; ls /; exit 3"
    terminated = _ended(api, script, env=environment, volumeMounts=mounts)
    assert (terminated.exit_code, terminated.reason) == (3, "Error")
    log = api.read_namespaced_pod_log("p", "default", _preload_content=False).data.decode().split()
    assert log[0] == "hello"
    # Nothing of this machine is there.
    assert "home" not in log
    assert docker_engine.containers() == []


def test_a_container_is_killed_at_its_memory_limit(api, docker_engine):
    """The kernel kills a container that takes more than its limit."""
    script = "x=a; while :; do x=$x$x; done"
    terminated = _ended(api, script, resources={"limits": {"memory": "32Mi"}})
    assert (terminated.exit_code, terminated.reason) == (137, "OOMKilled")
    assert docker_engine.containers() == []


def test_a_command_that_the_image_does_not_have(api, docker_engine):
    """A command that cannot be started is a start error."""
    terminated = _ended(api, "", command=["no-such-command"])
    assert terminated.reason == "StartError"
    assert "no-such-command" in terminated.message
    assert docker_engine.containers() == []
