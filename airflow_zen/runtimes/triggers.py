"""The triggers of deferred steps: they wait for a pod or job, renew the lease, pass on the log, end a cleared run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async
from kubernetes_asyncio.client import ApiException, CoreV1Api, CustomObjectsApi

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.runtimes import parse_runtime
from airflow_zen.runtimes.base import OutputStream
from airflow_zen.runtimes.kubeflow_jobs import job_state
from airflow_zen.runtimes.pod_log import BEGIN, lines_after, seconds_since
from airflow_zen.steps.run import end_suspended_runs

if TYPE_CHECKING:
    from airflow_zen.runtimes.kubeflow import TrainingJob
    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.runtimes")

# In seconds.
_HEARTBEAT, _LOG_INTERVAL = 30.0, 5.0
_NOT_FOUND = 404

ReadLog = Callable[[int | None], Awaitable[Iterable[str]]]
"""Read the lines of a log with their timestamps, of the last seconds or from the beginning."""


class DeferredStep:
    """A step whose task is deferred: the name of its stack, and the id of its run; both are missing outside of a task.

    `position` is the position in the log up to which it was passed on.
    """

    def __init__(self, step: Mapping[str, str]) -> None:
        self._step = step
        self.position = BEGIN

    @asynccontextmanager
    async def attended(self, read_log: ReadLog) -> AsyncIterator[None]:
        """Renew the lease and pass on the log during the block."""
        beside = [asyncio.create_task(work) for work in (self._send_heartbeats(), self._follow_log(read_log))]
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)

    async def end_run(self) -> None:
        """End the run of a task that a user has cleared or marked."""
        if not self._step:
            return
        try:
            stack = await self._open_stack(lineage=True)
            await asyncio.to_thread(end_suspended_runs, stack, StepRunId.parse(self._step["run"]))
        except Exception:
            log.exception("The run of %s is ended by the next try of its task", self._step["run"])

    async def _send_heartbeats(self) -> None:
        stack = None
        while self._step:
            try:
                stack = stack or await self._open_stack(lineage=False)
                if not await asyncio.to_thread(_renew_lease, stack, StepRunId.parse(self._step["run"])):
                    return
            except Exception as error:  # noqa: BLE001 - a lease is not worth a failed step
                log.warning("The lease of %s is not renewed: %s", self._step["run"], error)
            await asyncio.sleep(_HEARTBEAT)

    async def _follow_log(self, read_log: ReadLog) -> None:
        stream = _TriggerLog()
        while True:
            await asyncio.sleep(_LOG_INTERVAL)
            try:
                lines = await read_log(seconds_since(self.position))
            except Exception as error:  # noqa: BLE001 - a container that has not started has no log
                log.debug("The log of the step's pod cannot be read yet: %s", error)
                continue
            for position, line in lines_after(lines, self.position):
                self.position = position
                stream.write(line)

    async def _open_stack(self, *, lineage: bool) -> Any:
        # Connections are read as the provider's hook reads them: by the thread that the event loop waits for.
        return await sync_to_async(open_stack)(Settings.read(self._step["stack"]), lineage=lineage)


class _TriggerLog(OutputStream):
    """Log prints as records, because the standard output of a triggerer is not in the task's log."""

    def _print(self, line: str, *, is_error: bool) -> None:
        log.log(logging.ERROR if is_error else logging.INFO, "%s", line)


def _renew_lease(stack: Stack, run: StepRunId) -> bool:
    suspended = stack.records.get_suspended(run)
    return bool(suspended and suspended.lease and suspended.lease.renew(stack.store.transport))


class StepPodTrigger(KubernetesPodTrigger):
    """The provider's trigger, which also renews the lease of the step, and ends its run when a user clears the task.

    It passes on the pod's log, and its event contains the position up to which it did. `step`: the name of the stack,
    and the id of the step run.
    """

    def __init__(self, *, step: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.step = dict(step or {})

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class, and its arguments."""
        _, options = super().serialize()
        return f"{__name__}.{type(self).__name__}", {**options, "step": self.step}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end of the pod."""
        deferred = DeferredStep(self.step)
        async with deferred.attended(self._read_log):
            async for event in super().run():
                event.payload["log_position"] = list(deferred.position)
                yield event

    async def on_kill(self) -> None:
        """Delete the pod of a task that a user has cleared or marked, and end its run."""
        await super().on_kill()
        if not self._fired_event:
            await DeferredStep(self.step).end_run()

    async def _read_log(self, since_seconds: int | None) -> Iterable[str]:
        options = {"container_name": self.base_container_name, "since_seconds": since_seconds}
        lines: Iterable[str] = await self.hook.read_logs(self.pod_name, self.pod_namespace, **options)
        return lines


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
