"""The trigger of a step that is deferred while its pod runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger

from airflow_zen.runtimes.triggerer import DeferredStep

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent


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
