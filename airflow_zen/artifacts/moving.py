"""A transfer of fsspec's that ends when nothing of it moves any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_zen.progress import Moved


class Movement:
    """Tell `moved` what fsspec's own counter of one file says; `count` is what it said last."""

    def __init__(self, moved: Moved) -> None:
        from fsspec.callbacks import Callback

        self._moved = moved
        self.count = 0
        self.callback = Callback(hooks={"moved": self._since})

    def _since(self, _size: int | None, value: int) -> None:
        count, self.count = value - self.count, value
        self._moved(count)


async def while_it_moves(transfer: Callable[[], Awaitable[Any]], movement: Movement, patience: float) -> None:
    """Do a transfer; raises `TimeoutError` when it does not move for `patience` seconds.

    aiohttp waits without end for a server that reads no more of what it is sent.
    """
    task = asyncio.ensure_future(transfer())
    seen = -1
    while seen != movement.count:
        seen = movement.count
        await asyncio.wait({task}, timeout=patience)
        if task.done():
            await task
            return
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    raise TimeoutError(f"nothing of it moved for {patience:g} s")
