"""The trigger of a deferred step: it waits for the pod, renews the lease, and logs what the pod logs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from asgiref.sync import sync_to_async

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.runtimes.base import OutputStream
from airflow_zen.runtimes.pod_log import BEGIN, lines_after, seconds_since
from airflow_zen.steps.run import end_suspended_runs

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.runtimes")

# In seconds.
_HEARTBEAT, _LOG_INTERVAL = 30.0, 5.0


class _TriggerLog(OutputStream):
    """Log prints as records, because the standard output of a triggerer is not in the task's log."""

    def _print(self, line: str, *, is_error: bool) -> None:
        log.log(logging.ERROR if is_error else logging.INFO, "%s", line)


class StepPodTrigger(KubernetesPodTrigger):
    """The provider's trigger, which also renews the lease of the step, and ends its run when a user clears the task.

    It passes on the pod's log, and its event contains the position up to which it did. `step`: the name of the stack,
    and the id of the step run.
    """

    def __init__(self, *, step: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.step = dict(step or {})
        self._position = BEGIN

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class, and its arguments."""
        _, options = super().serialize()
        return f"{__name__}.{type(self).__name__}", {**options, "step": self.step}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end of the pod."""
        beside = [asyncio.create_task(work) for work in (self._send_heartbeats(), self._follow_log())]
        try:
            async for event in super().run():
                event.payload["log_position"] = list(self._position)
                yield event
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)

    async def on_kill(self) -> None:
        """Delete the pod of a task that a user has cleared or marked, and end its run."""
        await super().on_kill()
        if self._fired_event or not self.step:
            return
        try:
            stack = await self._open_stack(lineage=True)
            await asyncio.to_thread(end_suspended_runs, stack, StepRunId.parse(self.step["run"]))
        except Exception:
            self.log.exception("The run of %s is ended by the next try of its task", self.step["run"])

    async def _send_heartbeats(self) -> None:
        stack = None
        while self.step:
            try:
                stack = stack or await self._open_stack(lineage=False)
                if not await asyncio.to_thread(_renew_lease, stack, StepRunId.parse(self.step["run"])):
                    return
            except Exception as error:  # noqa: BLE001 - a lease is not worth a failed step
                self.log.warning("The lease of %s is not renewed: %s", self.step["run"], error)
            await asyncio.sleep(_HEARTBEAT)

    async def _follow_log(self) -> None:
        stream = _TriggerLog()
        while True:
            await asyncio.sleep(_LOG_INTERVAL)
            try:
                options = {"container_name": self.base_container_name, "since_seconds": seconds_since(self._position)}
                lines = await self.hook.read_logs(self.pod_name, self.pod_namespace, **options)
            except Exception as error:  # noqa: BLE001 - a container that has not started has no log
                log.debug("The log of pod %s cannot be read yet: %s", self.pod_name, error)
                continue
            for position, line in lines_after(lines, self._position):
                self._position = position
                stream.write(line)

    async def _open_stack(self, *, lineage: bool) -> Any:
        # Connections are read as the provider's hook reads them: by the thread that the event loop waits for.
        return await sync_to_async(open_stack)(Settings.read(self.step["stack"]), lineage=lineage)


def _renew_lease(stack: Stack, run: StepRunId) -> bool:
    suspended = stack.records.get_suspended(run)
    return bool(suspended and suspended.lease and suspended.lease.renew(stack.store.transport))
