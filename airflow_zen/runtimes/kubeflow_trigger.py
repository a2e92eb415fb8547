"""The trigger of a step that is deferred while its training job runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import ApiException, CoreV1Api, CustomObjectsApi

from airflow_zen.runtimes import parse_runtime
from airflow_zen.runtimes.kubeflow_jobs import job_state
from airflow_zen.runtimes.triggerer import DeferredStep

if TYPE_CHECKING:
    from airflow_zen.runtimes.kubeflow import TrainingJob

log = logging.getLogger("airflow_zen.runtimes")

_NOT_FOUND = 404


class TrainingJobTrigger(BaseTrigger):
    """Fire when a job has ended, was deleted, or does not start in time.

    Meanwhile it renews the lease of the step, and passes on the log of the first pod. `runtime`: the text of the runtime.
    `started`: when the job was created, in seconds since the epoch. `deadline`: when the task times out, likewise.
    `step`: the name of the stack, and the id of the step run.
    """

    def __init__(
        self,
        *,
        runtime: str,
        namespace: str,
        name: str,
        started: float,
        deadline: float | None = None,
        poll_interval: float = 5.0,
        step: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.runtime, self.namespace, self.name = runtime, namespace, name
        self.started, self.deadline, self.poll_interval = started, deadline, poll_interval
        self.step = dict(step or {})
        self._parsed = cast("TrainingJob", parse_runtime(runtime, "the runtime of a trigger"))
        self._kind = self._parsed.kind()
        self._hook = AsyncKubernetesHook(conn_id=self._parsed.kubernetes_conn_id)
        self._has_first_pod = self._has_fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class, and its arguments."""
        names = ("runtime", "namespace", "name", "started", "deadline", "poll_interval", "step")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll the job until the task has to continue."""
        deferred = DeferredStep(self.step)
        async with deferred.attended(self._read_log):
            state = ""
            while not state:
                await asyncio.sleep(self.poll_interval)
                state = await self._look()
        self._has_fired = True
        payload = {"status": state, "name": self.name, "log_position": list(deferred.position)}
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Delete the job of a task that a user has cleared or marked, and end its run."""
        if self._has_fired:
            return
        try:
            async with self._hook.get_conn() as connection:
                custom: Any = CustomObjectsApi(connection)
                options = {"propagation_policy": "Foreground"}
                await custom.delete_namespaced_custom_object(*self._place(), self.name, **options)
        except Exception:
            log.exception("Job %s is deleted by the next try of its task", self.name)
        await DeferredStep(self.step).end_run()

    async def _look(self) -> str:
        """Return why the task has to continue; "" while the job runs, and while the cluster does not answer."""
        try:
            async with self._hook.get_conn() as connection:
                job = await CustomObjectsApi(connection).get_namespaced_custom_object(*self._place(), self.name)
                self._has_first_pod = self._has_first_pod or bool(await self._running_pods(connection))
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return "deleted"
            log.warning("The cluster of %r does not answer: %s", self._parsed.kubernetes_conn_id, error)
            return ""
        except Exception as error:  # noqa: BLE001 - a cluster that does not answer is asked again
            log.warning("The cluster of %r does not answer: %s", self._parsed.kubernetes_conn_id, error)
            return ""
        return job_state(self._kind, job) or self._expired()

    def _expired(self) -> str:
        """Return which time is over; "" while none is."""
        if self.deadline is not None and time.time() > self.deadline:
            return "deadline"
        late = not self._has_first_pod and time.time() - self.started > self._parsed.startup_timeout
        return "timeout" if late else ""

    async def _running_pods(self, connection: Any) -> list[str]:
        """Return the names of the job's first pod, once it has been started."""
        selector = self._kind.first_pod.format(name=self.name)
        found = await CoreV1Api(connection).list_namespaced_pod(self.namespace, label_selector=selector)
        return [pod.metadata.name for pod in found.items if pod.status.phase != "Pending"]

    async def _read_log(self, since_seconds: int | None) -> Iterable[str]:
        async with self._hook.get_conn() as connection:
            names = await self._running_pods(connection)
        if not names:
            return ()
        options = {"container_name": self._kind.container, "since_seconds": since_seconds}
        lines: Iterable[str] = await self._hook.read_logs(names[-1], self.namespace, **options)
        return lines

    def _place(self) -> tuple[str, str, str, str]:
        return self._kind.group, self._kind.version, self.namespace, self._kind.plural
