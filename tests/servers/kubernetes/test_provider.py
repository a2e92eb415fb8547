"""Airflow's provider of Kubernetes against the cluster of tests."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchFailedException, PodManager
from kubernetes.client import CoreV1Api, V1ObjectMeta, V1Pod

from tests.servers.kubernetes import kubernetes_cluster
from tests.servers.kubernetes.test_pods import IMAGE


@pytest.fixture
def cluster(tmp_path):
    with kubernetes_cluster(tmp_path / "node", IMAGE) as running:
        yield running


class Lines(KubernetesPodOperatorCallback):
    """What the provider reads of a log."""

    seen: ClassVar[list[str]] = []

    @staticmethod
    def progress_callback(*, line, **_):
        """Keep a line."""
        Lines.seen.append(line)


@pytest.fixture
def manager(cluster):
    Lines.seen.clear()
    with cluster.client() as connection:
        yield PodManager(CoreV1Api(connection), [Lines])


def _pod(script, image=IMAGE.name):
    container = {"name": "base", "image": image, "command": ["/bin/sh", "-c", script]}
    spec = {"restartPolicy": "Never", "containers": [container]}
    return V1Pod(metadata=V1ObjectMeta(name="p", namespace="default"), spec=spec)


def test_the_pod_manager_runs_a_pod(manager):
    """The provider creates a pod, waits for it, follows its log, and deletes it."""
    pod = manager.create_pod(_pod("echo one; sleep 0.3; echo two; exit 5"))
    asyncio.run(manager.await_pod_start(pod, check_interval=0.1))
    status = manager.fetch_container_logs(pod, "base", follow=True)
    ended = manager.await_pod_completion(pod)
    # The provider reads the last lines again while the pod does not say yet that the container has ended.
    assert list(dict.fromkeys(map(str.strip, Lines.seen))) == ["one", "two"]
    assert not status.running
    assert ended.status.container_statuses[0].state.terminated.exit_code == 5
    messages = {event.message for event in manager.read_pod_events(pod).items}
    assert messages == {"Successfully assigned default/p to node-1", "Started container base"}
    manager.delete_pod(pod)
    manager.delete_pod(pod)
    assert manager._client.list_namespaced_pod("default").items == []


def test_the_pod_manager_tells_of_a_missing_image(manager):
    """An image that cannot be pulled ends the wait with the reason."""
    pod = manager.create_pod(_pod("true", image="nowhere/none:1"))
    with pytest.raises(PodLaunchFailedException, match="ErrImagePull"):
        asyncio.run(manager.await_pod_start(pod, check_interval=0.1))


def test_the_triggerers_hook_sees_a_pod(cluster, manager):
    """The hook of the triggerer reads the pod, its log and its events, and deletes it."""
    manager.create_pod(_pod("echo one"))
    hook = AsyncKubernetesHook(conn_id=None, config_dict=cluster.kubeconfig())

    async def watch():
        for _ in range(200):
            if (pod := await hook.get_pod("p", "default")).status.phase == "Succeeded":
                break
            await asyncio.sleep(0.05)
        events = [event.reason async for event in hook.watch_pod_events("p", "default", timeout_seconds=1)]
        logs = await hook.read_logs("p", "default", "base")
        listed = await hook.get_pod_events("p", "default")
        await hook.delete_pod("p", "default")
        return pod, events, logs, [event.reason for event in listed.items]

    pod, events, logs, listed = asyncio.run(watch())
    assert pod.status.container_statuses[0].state.terminated.reason == "Completed"
    assert [line.partition(" ")[2] for line in logs] == ["one"]
    assert events == []
    assert sorted(listed) == ["Scheduled", "Started"]
