"""The one node of the cluster: a scheduler, and a kubelet that runs pods on an engine of containers.

A pod goes through the phases of Kubernetes: Pending while no room, image or configuration is there, Running, Succeeded or
Failed. Delays are shorter than Kubernetes' own: a restart waits 0.2 s instead of 10, an image that is missing is asked
for once.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from tests.servers.kubernetes.containers import Engine, Image, decoded
from tests.servers.kubernetes.errors import ApiError
from tests.servers.kubernetes.kubelet import PodWorker
from tests.servers.kubernetes.logs import is_true
from tests.servers.kubernetes.metadata import now
from tests.servers.kubernetes.pods import quantity, requests
from tests.servers.kubernetes.resources import Resources
from tests.servers.kubernetes.store import Object

__all__ = ["Image", "Node"]
_CAPACITY = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}


class Node:
    """Schedule and run pods while it is open.

    capacity: such as `{"nvidia.com/gpu": "1"}`, beside 8 CPUs and 32 GiB. taints: as in a node's spec.
    """

    name = "node-1"

    def __init__(
        self,
        resources: Resources,
        engine: Engine,
        images: Sequence[Image],
        *,
        capacity: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.resources = resources
        self.engine = engine
        self.images = {image.name: image for image in images}
        self._capacity = {**_CAPACITY, **(capacity or {})}
        self._labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", **(labels or {})}
        self._taints = list(taints)
        self._pods = resources.kind("Pod")
        self._workers: dict[str, PodWorker] = {}
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        kind = self.resources.kind("Node")
        new = {"metadata": {"name": self.name, "labels": self._labels}, "spec": {"taints": self._taints}}
        self.resources.create(kind, "", new)
        status = {"capacity": self._capacity, "allocatable": self._capacity}
        self.resources.set_status(kind, "", self.name, lambda found: found.update(status=status))
        threading.Thread(target=self._follow, args=(self.resources.store.revision,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for worker in list(self._workers.values()):
            worker.close()

    @property
    def is_closed(self) -> bool:
        """Whether the node takes no more pods."""
        return self._closed.is_set()

    def logs(self, pod: Object, query: Mapping[str, str]) -> Iterator[bytes]:
        """Return the lines of a container's log; raise `ApiError` 400 if it has not started, or is not named."""
        names = [container["name"] for container in pod["spec"]["containers"]]
        name = query.get("container") or (names[0] if len(names) == 1 else "")
        pod_name = pod["metadata"]["name"]
        if not name:
            message = f"a container name must be specified for pod {pod_name}, choose one of: [{' '.join(names)}]"
            raise ApiError(400, message)
        if name not in [*names, *(each["name"] for each in pod["spec"].get("initContainers") or ())]:
            raise ApiError(400, f"container {name} is not valid for pod {pod_name}")
        worker = self._workers.get(pod["metadata"]["uid"])
        log = worker.log(name, previous=is_true(query, "previous")) if worker else None
        if log is None:
            raise ApiError(400, f'container "{name}" in pod "{pod_name}" is waiting to start: ContainerCreating')
        return log.read(query)

    def kill_container(self, namespace: str, pod: str, container: str) -> None:
        """Kill a container as the kernel, a crash or an operator of the node would."""
        found = self.resources.store.get(self._pods, namespace, pod)
        self._workers[found["metadata"]["uid"]].kill(container)

    def content(self, namespace: str) -> Any:
        """Return a function that gives the content of the namespace's secrets and config maps."""
        store = self.resources.store
        return lambda kind, name: decoded(store.get(self.resources.kind(kind), namespace, name))

    def unschedulable(self, pod: Object) -> str | None:
        """Return why the pod does not fit the node; None if it does."""
        spec = pod["spec"]
        why = []
        if any(self._labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
            why.append("1 node(s) didn't match Pod's node affinity/selector")
        for taint in self._taints:
            if not any(_tolerates(toleration, taint) for toleration in spec.get("tolerations") or ()):
                why += [f"1 node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"]
        used = self._used(pod["metadata"]["uid"])
        for name, amount in requests(pod).items():
            if used.get(name, 0) + amount > quantity(self._capacity.get(name, "0")):
                why.append(f"1 Insufficient {name}")
        return f"0/1 nodes are available: {', '.join(why)}." if why else None

    def schedule(self, pod: Object) -> str | None:
        """Give the pod to this node, or return why it does not fit."""
        with self._lock, self.resources.store.lock:
            if why := self.unschedulable(pod):
                return why
            self.resources.set_status(self._pods, *_place(pod), lambda found: found["spec"].update(nodeName=self.name))
        return None

    def record(self, pod: Object, reason: str, message: str, kind: str = "Normal") -> None:
        """Write an event of the pod."""
        namespace, name = _place(pod)
        about = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name}
        times = {"firstTimestamp": now(), "lastTimestamp": now(), "count": 1}
        event = {
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {**about, "uid": pod["metadata"]["uid"]},
            "source": {"component": "kubelet", "host": self.name},
            "reason": reason,
            "message": message,
            "type": kind,
            **times,
        }
        # A namespace that is being deleted takes no more events.
        with suppress(ApiError):
            self.resources.create(self.resources.kind("Event"), namespace, event)

    def _used(self, uid: str) -> dict[str, float]:
        total: dict[str, float] = {}
        for pod in self.resources.store.find(self._pods, "", lambda found: bool(found["spec"].get("nodeName"))):
            if pod["metadata"]["uid"] != uid and pod["status"].get("phase") not in ("Succeeded", "Failed"):
                for name, amount in requests(pod).items():
                    total[name] = total.get(name, 0) + amount
        return total

    def _follow(self, since: int) -> None:
        while not self._closed.is_set():
            changes, since = self.resources.store.changes(self._pods, "", since, 0.5)
            for change in changes:
                pod = change.after or change.before or {}
                uid = pod["metadata"]["uid"]
                if change.before is None:
                    self._workers[uid] = PodWorker(self, pod)
                    self._workers[uid].start()
                elif change.after is None:
                    self._workers[uid].delete(0)
                elif "deletionTimestamp" in pod["metadata"]:
                    self._workers[uid].delete(pod["metadata"]["deletionGracePeriodSeconds"])


def _place(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("key") not in (None, "", taint["key"]) or toleration.get("effect") not in (
        None,
        "",
        taint["effect"],
    ):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
