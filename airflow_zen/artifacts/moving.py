"""A transfer of fsspec's that ends when nothing of it moves any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_zen.progress import BytesCallback


class TransferCounter:
    """Tell `on_bytes` what fsspec's own counter of one file says; `count` is what it said last."""

    def __init__(self, on_bytes: BytesCallback) -> None:
        from fsspec.callbacks import Callback

        self._on_bytes = on_bytes
        self.count = 0
        self.callback = Callback(hooks={"moved": self._on_progress})

    def _on_progress(self, _size: int | None, value: int) -> None:
        count, self.count = value - self.count, value
        self._on_bytes(count)


async def with_stall_timeout(
    transfer: Callable[[], Awaitable[Any]], counter: TransferCounter, stall_timeout: float
) -> None:
    """Do a transfer; raises `TimeoutError` when it does not move for `stall_timeout` seconds.

    aiohttp waits without end for a server that reads no more of what it is sent.
    """
    task = asyncio.ensure_future(transfer())
    previous_count = -1
    while previous_count != counter.count:
        previous_count = counter.count
        await asyncio.wait({task}, timeout=stall_timeout)
        if task.done():
            await task
            return
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    raise TimeoutError(f"nothing of it moved for {stall_timeout:g} s")
