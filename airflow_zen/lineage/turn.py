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
_SECONDS = 900.0

# Who has a turn begins nothing new after this, so that what was begun ends within the turn.
_TO_BEGIN = 600.0


class Turn(msgspec.Struct, frozen=True):
    """A turn that is held: `until` this time, in seconds since the epoch, something new may be begun."""

    until: float
    clock: Callable[[], float]

    @property
    def lasts(self) -> bool:
        """Tell whether something new may be begun."""
        return self.clock() < self.until


@contextmanager
def turn(transport: Transport, key: str, clock: Callable[[], float]) -> Iterator[Turn | None]:
    """Hold the turn at `key` for the block, 15 minutes at most; None where another one has it.

    Every turn has a number, and its object `<key>/<number>.json` is made by one alone and changed by no
    other, so a holder that wakes up late can neither take nor end the turn of a later one.

    clock: seconds since the epoch, on about the same time everywhere.
    """
    folder, holder, now = key.removesuffix(".json"), uuid.uuid4().hex, clock()
    number = _taken(transport, folder, holder, now)
    try:
        yield Turn(now + _TO_BEGIN, clock) if number else None
    finally:
        if number and _read(transport, _key(folder, number))[0] == holder:
            transport.write(_key(folder, number), _held(holder, until=0.0))


def _taken(transport: Transport, folder: str, holder: str, now: float) -> int | None:
    """Give the number of the turn that is ours now; older ones are swept away."""
    keys = list(transport.list(folder))
    latest = keys[-1] if keys else None
    if latest and now < _read(transport, latest)[1]:
        return None
    number = _number(latest) + 1 if latest else 1
    with suppress(AlreadyExists):
        transport.create(_key(folder, number), _held(holder, now + _SECONDS))
    # Read again even after success: some S3 servers ignore the condition, and the last writer wins.
    if _read(transport, _key(folder, number))[0] != holder:
        return None
    transport.delete(keys)
    return number


def _key(folder: str, number: int) -> str:
    return f"{folder}/{number:012d}.json"


def _number(key: str) -> int:
    return int(key.rpartition("/")[2].partition(".")[0])


def _held(holder: str, until: float) -> bytes:
    return json.dumps({"holder": holder, "until": until}).encode()


def _read(transport: Transport, key: str) -> tuple[str, float]:
    with suppress(ArtifactNotFound):
        held = json.loads(transport.read(key))
        return str(held["holder"]), float(held["until"])
    return "", 0.0
