"""Single flight: of equal steps that start together one computes, and the others wait for its result."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from airflow_zen.errors import AlreadyExists, ArtifactNotFound

if TYPE_CHECKING:
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.caching")

T = TypeVar("T")


class TaskAttempt(msgspec.Struct, frozen=True):
    """Name one of several tries of the same work, of which at most one is wanted at a time."""

    task_instance: str
    try_number: int

    def supersedes(self, lease_text: bytes) -> bool:
        """Tell whether the lease is of an earlier try of this work, which Airflow has given up."""
        try:
            holder = json.loads(lease_text)
            return bool(holder["work"] == self.task_instance and holder["try"] < self.try_number)
        except (ValueError, KeyError, TypeError):
            return False


_MAX_POLL_INTERVAL = 2.0
_FIRST_HEARTBEAT = 1.0


class Lease:
    """The right to compute one key, kept alive by a heartbeat while the block lasts.

    Leaving the block with a result lets the others take it. Leaving it with an exception, or after
    `mark_without_result`, lets them all compute for themselves, at once.
    """

    def __init__(self, transport: Transport, lease_key: str, heartbeat: float, attempt: TaskAttempt | None) -> None:
        self._transport = transport
        self._key = lease_key
        self._heartbeat = heartbeat
        self._attempt = {"work": attempt.task_instance, "try": attempt.try_number} if attempt else {}
        self._holder = uuid.uuid4().hex
        self._closed = threading.Event()
        self._without_result = False
        self._thread = threading.Thread(target=self._send_heartbeats, name="airflow-zen-lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease; raises `AlreadyExists` when another has it."""
        self._transport.create(self._key, self._lease_text(0))

    def mark_without_result(self) -> None:
        """There will be no result to wait for."""
        self._without_result = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()
        _suppress_errors(self._release_without_result if kind or self._without_result else self._release)

    def _release(self) -> None:
        folder, _, number = self._key.rpartition("/")
        self._transport.delete([f"{folder}/{_lease_number(n)}" for n in range(int(number) + 1)])

    def _release_without_result(self) -> None:
        self._transport.write(self._key, json.dumps({"abandoned": self._holder}).encode())

    def _send_heartbeats(self) -> None:
        """Beat until the block is left; the first time, see that the store would have refused a second holder."""
        if not self._closed.wait(min(_FIRST_HEARTBEAT, self._heartbeat)):
            _suppress_errors(self._check_conditional_writes)
        count = 0
        while not self._closed.wait(self._heartbeat):
            count += 1
            mark = self._lease_text(count)
            _suppress_errors(lambda mark=mark: self._transport.write(self._key, mark))  # type: ignore[misc]

    def _check_conditional_writes(self) -> None:
        try:
            self._transport.create(self._key, self._lease_text(0))
        except AlreadyExists:
            return
        log.warning("This store ignores conditional writes: equal steps that start together are all computed.")

    def _lease_text(self, count: int) -> bytes:
        return json.dumps({"holder": self._holder, "beat": count, **self._attempt}).encode()


class NullLease(Lease):
    """Compute without a lease: nobody waits for the result, and nobody is asked."""

    def __init__(self) -> None:
        """Need nothing."""

    def mark_without_result(self) -> None:
        """Have nothing to give up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        return


class LeaseStore:
    """Hand out leases under `cache/` of the artifact root.

    A holder that dies is noticed when its lease has not changed for `stale_after` seconds, by the
    waiter's own clock, so clocks of machines need not agree; a holder writes every `heartbeat` seconds.
    A later try of the same work waits for no earlier one: Airflow starts it when the earlier is lost.
    A store that ignores conditional writes hands a lease to several, who then all compute.
    `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        transport: Transport,
        stale_after: float = 20.0,
        heartbeat: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._stale_after = stale_after
        self._heartbeat = heartbeat
        self._clock = clock

    def acquire_or_wait(
        self, key: str, find_result: Callable[[], T | None], attempt: TaskAttempt | None = None
    ) -> tuple[T | None, Lease]:
        """Wait until `find_result` gives a result, or until it is ours to compute; one request where nobody else is at it."""
        try:
            return self._acquire_or_wait(f"cache/{key[:2]}/{key}.lease", find_result, attempt)
        except OSError as error:
            log.warning("Equal steps may be computed twice: the lease of %s cannot be written: %s", key[:12], error)
            return None, NullLease()

    def _acquire_or_wait(
        self, folder: str, find_result: Callable[[], T | None], attempt: TaskAttempt | None
    ) -> tuple[T | None, Lease]:
        lease = self._try_acquire(f"{folder}/{_lease_number(0)}", attempt)
        if lease:
            return self._recheck_result(lease, find_result)
        watch, waited, pause = _StalenessTimer(self._stale_after, self._clock), False, 0.1
        while True:
            if (result := find_result()) is not None:
                return result, NullLease()
            asked_at = self._clock()
            latest, text = self._latest_lease(folder)
            abandoned = text is not None and b"abandoned" in text
            if abandoned and waited:
                return find_result(), NullLease()
            # What failed before we came is no reason not to take turns now.
            if text is None or abandoned or watch.is_stale(text, asked_at) or (attempt and attempt.supersedes(text)):
                lease = self._try_acquire(f"{folder}/{_lease_number(latest + 1)}", attempt)
                if lease:
                    return self._recheck_result(lease, find_result)
            elif not waited:
                log.info("An equal step is being computed elsewhere: waiting for its result.")
                waited = True
            time.sleep(pause)
            pause = min(pause * 1.5, _MAX_POLL_INTERVAL)

    def _recheck_result(self, lease: Lease, find_result: Callable[[], T | None]) -> tuple[T | None, Lease]:
        """Look once more before computing: the result may have come between the last look and the lease."""
        result = find_result()
        if result is None:
            return None, lease
        with lease:
            return result, NullLease()

    def _try_acquire(self, lease_key: str, attempt: TaskAttempt | None) -> Lease | None:
        lease = Lease(self._transport, lease_key, self._heartbeat, attempt)
        try:
            lease.acquire()
        except AlreadyExists:
            return None
        return lease

    def _latest_lease(self, folder: str) -> tuple[int, bytes | None]:
        """Give the number and text of the latest lease; -1 and None where there is none."""
        keys = list(self._transport.list(folder))
        if not keys:
            return -1, None
        try:
            return int(keys[-1].rpartition("/")[2]), self._transport.read(keys[-1])
        except ArtifactNotFound:
            return -1, None


class _StalenessTimer:
    """Notice that a lease has stopped changing, whatever time the store takes to answer."""

    def __init__(self, stale_after: float, clock: Callable[[], float]) -> None:
        self._stale_after = stale_after
        self._clock = clock
        self._text = b""
        self._since = clock()

    def is_stale(self, text: bytes, asked_at: float) -> bool:
        """Tell whether the text that was asked for at that time had been known for longer than the patience."""
        if text != self._text:
            self._text, self._since = text, self._clock()
        return asked_at - self._since > self._stale_after


def _lease_number(number: int) -> str:
    return f"{number:06}"


def _suppress_errors(work: Callable[[], object]) -> None:
    """Do without a heartbeat or a release that the store refuses: the others take over when the lease is stale."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - a lease is never worth a step
        log.debug("A lease could not be written: %s", error)


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
