"""The trigger that waits until a model in a cluster is ready, or has failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async
from kubernetes_asyncio.client import ApiException, CustomObjectsApi

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.deployment import parse_target
from airflow_zen.deployment.cluster.target import CANDIDATE, failure_of
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.steps.run import end_suspended_runs

log = logging.getLogger("airflow_zen.deployment")

_NOT_FOUND = 404


class ObjectTrigger(BaseTrigger):
    """Fire when an object is ready, has failed, was deleted, or stops changing; the task then inspects it itself.

    `target`: the text of the target. `poll_interval`: seconds between two polls; there is no watch that could be lost.
    `step`: the name of the stack, and the id of the step run.
    """

    def __init__(
        self,
        *,
        target: str,
        namespace: str,
        name: str,
        poll_interval: float = 5.0,
        step: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.target, self.namespace, self.name = target, namespace, name
        self.poll_interval = poll_interval
        self.step = dict(step or {})
        self._parsed: Any = parse_target(target)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class, and its arguments."""
        names = ("target", "namespace", "name", "poll_interval", "step")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll the object until the task has to continue."""
        hook, loop = AsyncKubernetesHook(conn_id=self._parsed.kubernetes), asyncio.get_running_loop()
        answered = loop.time()
        while loop.time() - answered < self._parsed.timeout:
            try:
                state = await self._look(hook)
                answered = loop.time()
            except Exception as error:  # noqa: BLE001 - a cluster that does not answer is asked again
                log.warning("The cluster of %r does not answer: %s", self._parsed.kubernetes, error)
                state = ""
            if state:
                yield self._event(state)
                return
            await asyncio.sleep(self.poll_interval)
        yield self._event("no answer")

    async def on_kill(self) -> None:
        """Delete the candidate of a task that a user has cleared or marked, and end its run."""
        try:
            if self.name.endswith(CANDIDATE):
                async with AsyncKubernetesHook(conn_id=self._parsed.kubernetes).get_conn() as connection:
                    await CustomObjectsApi(connection).delete_namespaced_custom_object(*self._place(), self.name)
            if self.step:
                stack = await sync_to_async(open_stack)(Settings.read(self.step["stack"]), lineage=True)
                await asyncio.to_thread(end_suspended_runs, stack, StepRunId.parse(self.step["run"]))
        except Exception:
            self.log.exception("What deploys %r is ended by the next try of its task", self.name)

    async def _look(self, hook: AsyncKubernetesHook) -> str:
        """Return the new state of the object; empty while its model starts."""
        async with hook.get_conn() as connection:
            try:
                found = await CustomObjectsApi(connection).get_namespaced_custom_object(*self._place(), self.name)
            except ApiException as error:
                if error.status == _NOT_FOUND:
                    return "deleted"
                raise
        state: str = self._parsed.progress(found).state
        return state if state != "waiting" else ("failed" if failure_of(self._parsed, found) else "")

    def _event(self, status: str) -> TriggerEvent:
        return TriggerEvent({"status": status, "name": self.name})  # type: ignore[no-untyped-call]

    def _place(self) -> tuple[str, str, str, str]:
        resource = self._parsed.resource()
        return resource.group, resource.version, self.namespace, resource.plural
