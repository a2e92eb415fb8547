"""The life of one pod on its node: from Pending to its end, and its deletion."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from tests.servers.kubernetes.containers import ConfigurationError, Ended, Image, Launch, Running, launch, make_volumes
from tests.servers.kubernetes.errors import ApiError
from tests.servers.kubernetes.logs import Log
from tests.servers.kubernetes.pod_status import PodStatus
from tests.servers.kubernetes.store import Object

if TYPE_CHECKING:
    from tests.servers.kubernetes.node import Node

Container = Mapping[str, Any]
# Seconds between two looks at containers, before a restart, and before another look for what a container refers to.
_LOOK, _RESTART, _RETRY = 0.02, 0.2, 0.1
# Seconds for the last lines of a container that has ended.
_LAST_LINES = 5
# The exit code of a container whose command cannot be started.
_CANNOT_START = 128


class PodWorker(threading.Thread):
    """Run one pod until it has ended or is deleted, and write its status."""

    def __init__(self, node: Node, pod: Object) -> None:
        super().__init__(daemon=True, name=f"pod {pod['metadata']['name']}")
        self._node = node
        self._pod = pod
        self._spec = pod["spec"]
        self._place = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        self._status = PodStatus(node.resources, pod)
        self._running: dict[str, Running] = {}
        self._logs: dict[str, list[Log]] = {}
        self._deleted = threading.Event()
        self._terminated: set[str] = set()
        # By the monotonic clock: when its containers are killed, and when its own time is over.
        self._killed_at: float | None = None
        self._late_at = float("inf")

    def run(self) -> None:
        """Run the pod; an object that is removed meanwhile has no status to be written."""
        folder = Path(mkdtemp(prefix="pod-"))
        try:
            with suppress(ApiError):
                if self._schedule():
                    self._run_pod(folder)
        finally:
            for container in self._running.values():
                container.kill()
            shutil.rmtree(folder, ignore_errors=True)
        # What has ended stays until it is deleted.
        self._deleted.wait()
        while not self._is_gone():
            time.sleep(0.1)

    def delete(self, grace: float) -> None:
        """Begin its end; grace: seconds between SIGTERM and SIGKILL."""
        at = time.monotonic() + grace
        self._killed_at = at if self._killed_at is None else min(self._killed_at, at)
        self._deleted.set()

    def close(self) -> None:
        """Kill its containers, and wait for them."""
        self.delete(0)
        self.join(10)

    def kill(self, container: str) -> None:
        """Kill one of its containers."""
        self._running[container].kill()

    def log(self, container: str, *, previous: bool) -> Log | None:
        """Return the log of a container, or of the one before its restart; None if there is none."""
        index = -2 if previous else -1
        logs = self._logs.get(container, [])
        return logs[index] if len(logs) >= -index else None

    def _schedule(self) -> bool:
        """Wait until the pod has a node; whether it has one."""
        told = None
        while (why := self._node.schedule(self._pod)) is not None:
            if why != told:
                self._status.set_condition("PodScheduled", "False", reason="Unschedulable", message=why)
                self._node.record(self._pod, "FailedScheduling", why, "Warning")
            told = why
            if self._deleted.wait(0.1):
                return False
        self._late_at = time.monotonic() + self._spec.get("activeDeadlineSeconds", float("inf"))
        self._status.set_condition("PodScheduled", "True")
        self._node.record(self._pod, "Scheduled", f"Successfully assigned {'/'.join(self._place)} to {self._node.name}")
        return True

    def _run_pod(self, folder: Path) -> None:
        containers = self._spec["containers"]
        try:
            make_volumes(self._pod, self._node.content(self._place[0]), folder)
        except ConfigurationError as error:
            self._wait(containers[0], "ContainerCreating", f"MountVolume.SetUp failed: {error}")
            return
        for container in self._spec.get("initContainers") or ():
            if not self._run_together([container], folder, again=self._spec["restartPolicy"] != "Never"):
                self._status.write(phase="Failed")
                return
        self._status.set_condition("Initialized", "True")
        succeeded = self._run_together(containers, folder, again=self._spec["restartPolicy"] == "Always")
        self._status.write(phase="Succeeded" if succeeded else "Failed")

    def _run_together(self, containers: Sequence[Container], folder: Path, *, again: bool) -> bool:
        """Run containers until all have ended for good; whether all succeeded. again: restart also what succeeded."""
        if not all(self._is_started(container, folder) for container in containers):
            return False
        if containers is self._spec["containers"]:
            self._status.write(phase="Running")
        left = list(containers)
        while left:
            left = [container for container in left if self._goes_on(container, folder, again=again)]
            self._end_if_due()
            time.sleep(_LOOK)
        return all(self._status.exit_code(container["name"]) == 0 for container in containers)

    def _is_started(self, container: Container, folder: Path) -> bool:
        """Start a container; if that cannot be done, say why, and wait for the pod's end."""
        name = container["name"]
        image = self._node.images.get(container["image"])
        if image is None:
            return self._wait(container, "ErrImagePull", f'failed to pull image "{container["image"]}": not found')
        identity = uuid.uuid4().hex
        prepared = self._prepared(identity, container, image, folder)
        if prepared is None:
            return False
        try:
            started = self._node.engine.start(prepared)
        except OSError as error:
            self._status.set_running(container, image, identity)
            self._status.set_ended(name, Ended(_CANNOT_START), reason="StartError", message=str(error))
            return False
        self._running[name] = started
        self._logs.setdefault(name, []).append(Log())
        threading.Thread(target=self._logs[name][-1].fill, args=(started.lines(),), daemon=True).start()
        self._status.set_running(container, image, identity)
        self._node.record(self._pod, "Started", f"Started container {name}")
        return True

    def _prepared(self, identity: str, container: Container, image: Image, folder: Path) -> Launch | None:
        """Return how a container is started, once all that it refers to is there; None for a pod that is deleted."""
        content = self._node.content(self._place[0])
        told = ""
        while not self._deleted.wait(_RETRY if told else 0):
            try:
                return launch(identity, self._pod, container, image, content, folder)
            except ConfigurationError as error:
                if str(error) != told:
                    told = str(error)
                    self._status.set_waiting(container, "CreateContainerConfigError", told)
                    self._node.record(self._pod, "Failed", f"Error: {told}", "Warning")
        return None

    def _goes_on(self, container: Container, folder: Path, *, again: bool) -> bool:
        """Whether a container runs, or is started again; write how it ended if it does not."""
        name = container["name"]
        ended = self._running[name].ended()
        if ended is None:
            return True
        self._logs[name][-1].wait_closed(_LAST_LINES)
        self._status.set_ended(name, ended)
        restarts = again or (ended.exit_code != 0 and self._spec["restartPolicy"] != "Never")
        if not restarts or self._killed_at is not None:
            return False
        self._status.set_restarting(name)
        return not self._deleted.wait(_RESTART) and self._is_started(container, folder)

    def _end_if_due(self) -> None:
        """Ask containers to end whose pod is deleted or late, and kill them when they had their grace."""
        now = time.monotonic()
        if now > self._late_at and self._killed_at is None:
            self._status.write(
                reason="DeadlineExceeded", message="Pod was active on the node longer than the specified deadline"
            )
            self._killed_at = now + self._spec["terminationGracePeriodSeconds"]
        if self._killed_at is None:
            return
        for name, container in self._running.items():
            if now > self._killed_at:
                container.kill()
            elif name not in self._terminated and container.ended() is None:
                container.terminate()
                self._terminated.add(name)

    def _wait(self, container: Container, reason: str, message: str) -> bool:
        """Report what a container waits for until the pod is deleted or late; it has not started."""
        self._node.record(self._pod, "Failed", message, "Warning")
        self._status.set_waiting(container, reason, message)
        self._deleted.wait(min(self._late_at - time.monotonic(), threading.TIMEOUT_MAX))
        return False

    def _is_gone(self) -> bool:
        """Remove the object if nobody's finalizer keeps it; whether it is gone."""
        resources = self._node.resources
        kind = resources.kind("Pod")
        with resources.store.lock:
            same = [
                found
                for found in resources.store.find(kind, self._place[0])
                if found["metadata"]["uid"] == self._pod["metadata"]["uid"]
            ]
            if same and same[0]["metadata"].get("finalizers"):
                return self._node.is_closed
            if same:
                resources.finish(kind, *self._place)
            return True
