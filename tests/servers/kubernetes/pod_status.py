"""What a kubelet reports of a pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.servers.kubernetes.containers import Ended, Image
from tests.servers.kubernetes.errors import not_found
from tests.servers.kubernetes.metadata import now
from tests.servers.kubernetes.resources import Resources
from tests.servers.kubernetes.store import Object


class PodStatus:
    """The status of one pod; every change is written. A pod that is gone has none: `ApiError` 404 is raised."""

    def __init__(self, resources: Resources, pod: Object) -> None:
        self._resources = resources
        self._kind = resources.kind("Pod")
        self._pod = pod
        self._containers: dict[str, Object] = {}
        self._conditions: dict[str, Object] = {}

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a container; None if it has not ended."""
        code = self._containers[name]["state"].get("terminated", {}).get("exitCode")
        return None if code is None else int(code)

    def set_condition(self, kind: str, status: str, **more: str) -> None:
        """Write a condition such as `PodScheduled`."""
        self._conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": now(), **more}
        self.write()

    def set_waiting(self, container: Mapping[str, Any], reason: str, message: str) -> None:
        """Write why a container is not there."""
        before = self._containers.get(container["name"], {"restartCount": 0})
        self._containers[container["name"]] = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": False,
            "started": False,
            "restartCount": before["restartCount"],
            "state": {"waiting": {"reason": reason, "message": message}},
            "lastState": before.get("lastState", {}),
        }
        self.write()

    def set_running(self, container: Mapping[str, Any], image: Image, identity: str) -> None:
        """Write that a container was started, or started again."""
        before = self._containers.get(container["name"], {"restartCount": -1})
        self._containers[container["name"]] = {
            "name": container["name"],
            "image": container["image"],
            "imageID": f"{container['image'].rpartition(':')[0]}@{image.digest}",
            "containerID": f"containerd://{identity}",
            "ready": True,
            "started": True,
            "restartCount": before["restartCount"] + 1,
            "state": {"running": {"startedAt": now()}},
            "lastState": before.get("lastState", {}),
        }
        self.write()

    def set_ended(self, name: str, ended: Ended, **more: str) -> None:
        """Write how a container ended; more: such as a `reason` that its exit code does not tell."""
        status = self._containers[name]
        terminated = {
            "exitCode": ended.exit_code,
            "reason": "OOMKilled" if ended.out_of_memory else "Error" if ended.exit_code else "Completed",
            "startedAt": status["state"]["running"]["startedAt"],
            "finishedAt": now(),
            "containerID": status["containerID"],
            **more,
        }
        status.update(ready=False, started=False, state={"terminated": terminated})
        self.write()

    def set_restarting(self, name: str) -> None:
        """Write that an ended container will be started again."""
        status = self._containers[name]
        waiting = {"reason": "CrashLoopBackOff", "message": f"back-off restarting failed container={name}"}
        status.update(lastState=status["state"], state={"waiting": waiting})
        self.write()

    def write(self, **fields: str) -> None:
        """Write the status with other fields, such as `phase`."""

        def change(found: Object) -> None:
            if found["metadata"]["uid"] != self._pod["metadata"]["uid"]:
                raise not_found("pods", self._pod["metadata"]["name"])
            found["status"] = {**found["status"], **self._found(), **fields}

        metadata = self._pod["metadata"]
        self._resources.set_status(self._kind, metadata["namespace"], metadata["name"], change)

    def _found(self) -> Object:
        initial = [container["name"] for container in self._pod["spec"].get("initContainers") or ()]
        found = {"hostIP": "127.0.0.1", "podIP": "127.0.0.1", "conditions": list(self._conditions.values())}
        for part, wanted in (("initContainerStatuses", True), ("containerStatuses", False)):
            statuses = [status for name, status in self._containers.items() if (name in initial) is wanted]
            found |= {part: statuses} if statuses else {}
        return found
