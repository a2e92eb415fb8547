"""The trigger of a deferred task, run as a triggerer runs it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from typing import Any

from tests.harness import InMemorySupervisor, _install_supervisor

try:
    from airflow.sdk.serde import deserialize

    serialize = dict
except ImportError:  # Airflow 3.1, whose tasks serialize no arguments of a trigger, and expect theirs serialized
    from airflow.serialization.serialized_objects import BaseSerialization

    deserialize, serialize = dict, BaseSerialization.serialize


def run_trigger(
    path: str, options: Any, connections: Mapping[str, Any], *, seconds: float = 60, is_killed: bool = False
) -> Any:
    """Return the event of a trigger within some seconds; or cancel it, as a triggerer does when a user acts on the task."""
    module, _, name = path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**{**deserialize(options), "poll_interval": 0.1})

    async def fire() -> Any:
        waiting = asyncio.ensure_future(anext(trigger.run()))
        if is_killed:
            await asyncio.wait([waiting], timeout=0.3)
            # The provider's pod manager takes a cancellation for the end of its own watch while the pod starts.
            while not waiting.done():
                waiting.cancel()
                await asyncio.wait([waiting], timeout=1)
            return await trigger.on_kill()
        return (await asyncio.wait_for(waiting, seconds)).payload

    with _install_supervisor(InMemorySupervisor(connections=dict(connections))):
        return asyncio.run(fire())


def resumption(method: str, event: Any) -> dict[str, Any]:
    """Return what a deferred task is resumed with."""
    return {"next_method": method, "next_kwargs": serialize({"event": event})}
