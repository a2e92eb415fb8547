"""One at a time, over any number of processes and machines that share a store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import AlreadyExists, ArtifactNotFound

# Who takes longer than this is taken for dead.
_LOCK_SECONDS = 900.0

# Who has a turn begins nothing new after this, so that what was begun ends within the turn.
_NEW_WORK_SECONDS = 600.0


class StoreLock(msgspec.Struct, frozen=True):
    """A turn that is held: `new_work_until` this time, in seconds since the epoch, something new may be begun."""

    new_work_until: float
    clock: Callable[[], float]

    @property
    def allows_new_work(self) -> bool:
        """Tell whether something new may be begun."""
        return self.clock() < self.new_work_until


@contextmanager
def try_lock(transport: Transport, key: str, clock: Callable[[], float]) -> Iterator[StoreLock | None]:
    """Hold the turn at `key` for the block, 15 minutes at most; None where another one has it.

    Every turn has a number, and its object `<key>/<number>.json` is made by one alone and changed by no
    other, so a holder that wakes up late can neither take nor end the turn of a later one.

    clock: seconds since the epoch, on about the same time everywhere.
    """
    folder, holder, now = key.removesuffix(".json"), uuid.uuid4().hex, clock()
    number = _acquire_lock(transport, folder, holder, now)
    try:
        yield StoreLock(now + _NEW_WORK_SECONDS, clock) if number else None
    finally:
        if number and _read_lock(transport, _lock_key(folder, number))[0] == holder:
            transport.write(_lock_key(folder, number), _lock_text(holder, until=0.0))


def _acquire_lock(transport: Transport, folder: str, holder: str, now: float) -> int | None:
    """Give the number of the turn that is ours now; older ones are swept away."""
    keys = list(transport.list(folder))
    latest = keys[-1] if keys else None
    if latest and now < _read_lock(transport, latest)[1]:
        return None
    number = _lock_number(latest) + 1 if latest else 1
    with suppress(AlreadyExists):
        transport.create(_lock_key(folder, number), _lock_text(holder, now + _LOCK_SECONDS))
    # Read again even after success: some S3 servers ignore the condition, and the last writer wins.
    if _read_lock(transport, _lock_key(folder, number))[0] != holder:
        return None
    transport.delete(keys)
    return number


def _lock_key(folder: str, number: int) -> str:
    return f"{folder}/{number:012d}.json"


def _lock_number(key: str) -> int:
    return int(key.rpartition("/")[2].partition(".")[0])


def _lock_text(holder: str, until: float) -> bytes:
    return json.dumps({"holder": holder, "until": until}).encode()


def _read_lock(transport: Transport, key: str) -> tuple[str, float]:
    with suppress(ArtifactNotFound):
        held = json.loads(transport.read(key))
        return str(held["holder"]), float(held["until"])
    return "", 0.0
