"""What a triggerer does for a deferred step while it waits: renew the lease, log what the pod logs, end a cleared run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.runtimes.base import OutputStream
from airflow_zen.runtimes.pod_log import BEGIN, lines_after, seconds_since
from airflow_zen.steps.run import end_suspended_runs

if TYPE_CHECKING:
    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.runtimes")

# In seconds.
_HEARTBEAT, _LOG_INTERVAL = 30.0, 5.0

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
