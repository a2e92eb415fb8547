"""One at a time, over any number of processes and machines that share a store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import AlreadyExists, ArtifactNotFound

# Who takes longer than this is taken for dead.
_SECONDS = 900.0


@contextmanager
def turn(transport: Transport, key: str, clock: Callable[[], float]) -> Iterator[bool]:
    """Hold the turn at `key` for the block, 15 minutes at most; False where another one has it.

    clock: seconds since the epoch, on about the same time everywhere.
    """
    holder = uuid.uuid4().hex
    mine = _taken(transport, key, holder, clock())
    try:
        yield mine
    finally:
        if mine and _read(transport, key)[0] == holder:
            transport.delete([key])


def _taken(transport: Transport, key: str, holder: str, now: float) -> bool:
    ours = json.dumps({"holder": holder, "until": now + _SECONDS}).encode()
    try:
        transport.create(key, ours)
    except AlreadyExists:
        if now < _read(transport, key)[1]:
            return False
        transport.write(key, ours)
    # Read again even after success: some S3 servers ignore the condition, and the last writer wins.
    return _read(transport, key)[0] == holder


def _read(transport: Transport, key: str) -> tuple[str, float]:
    with suppress(ArtifactNotFound):
        held = json.loads(transport.read(key))
        return str(held["holder"]), float(held["until"])
    return "", 0.0
