"""Leases in the artifact store: one of several processes holds a lease, and a dead holder loses it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import AlreadyExists, ArtifactNotFound
from airflow_zen.json_records import decode_record

if TYPE_CHECKING:
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.caching")

T = TypeVar("T")

_FIRST_HEARTBEAT, _MAX_POLL_INTERVAL = 1.0, 2.0
# As long as a triggerer that was killed may take to be replaced.
_SUSPENDED_SECONDS = 120.0
# A lock expires after this, and allows new work for the shorter time, so that the work ends before.
_LOCK_SECONDS, _NEW_WORK_SECONDS = 900.0, 600.0


class LeaseRecord(msgspec.Struct, frozen=True, omit_defaults=True, rename={"try_number": "try"}):
    """The stored state of a lease.

    A holder either changes `beat` regularly, or names the time `until` which it holds the lease, in seconds since the
    epoch. `work` and `try_number` identify the task instance and its try. `abandoned` is the holder that ended
    without a result. `stale_after`: seconds without a beat after which the holder is dead; 0 for those of the `LeaseStore`.
    """

    holder: str = ""
    beat: int = -1
    work: str = ""
    try_number: int = 0
    until: float = -1.0
    abandoned: str = ""
    stale_after: float = 0.0


class LeaseRecords(msgspec.Struct, frozen=True):
    """The numbered records of one lease: the highest number is valid, and each number has exactly one holder.

    A holder that wakes up late cannot take or release a later lease. `first`: the key of number 0, if elsewhere.
    """

    transport: Transport
    folder: str
    name: str = "{:06}"
    first: str = ""

    def latest(self) -> tuple[int, LeaseRecord | None]:
        """Return the number and the record that are valid; -1 where there is none, None where it was just deleted."""
        numbers = self.numbers() or [0] * bool(self.first)
        return (numbers[-1], self.read(numbers[-1])) if numbers else (-1, None)

    def numbers(self) -> list[int]:
        """Return all stored numbers, in order."""
        names = (key.rpartition("/")[2].partition(".")[0] for key in self.transport.list(self.folder))
        return [int(name) for name in names if name.isdecimal()]

    def create(self, number: int, record: LeaseRecord) -> bool:
        """Take a number; False when another holder has it."""
        with suppress(AlreadyExists):
            self.transport.create(self._key(number), msgspec.json.encode(record))
            return True
        return False

    def has_result(self) -> bool:
        """Whether the record of number 0 was replaced by a result."""
        record = self.read(0)
        return record is not None and not (record.holder or record.abandoned)

    def write(self, number: int, record: LeaseRecord) -> None:
        """Replace the record of a number that the caller holds."""
        self.transport.write(self._key(number), msgspec.json.encode(record))

    def read(self, number: int) -> LeaseRecord | None:
        """Return the record of a number; an unreadable one is an empty record."""
        try:
            return decode_record(self.transport.read(self._key(number)), LeaseRecord)
        except ArtifactNotFound:
            return None
        except msgspec.DecodeError:
            return LeaseRecord()

    def delete(self, numbers: Iterable[int]) -> None:
        """Delete the records of these numbers."""
        self.transport.delete([self._key(number) for number in numbers])

    def _key(self, number: int) -> str:
        return self.first if self.first and not number else f"{self.folder}/{self.name.format(number)}"


class TaskAttempt(msgspec.Struct, frozen=True):
    """One of several tries of the same task instance; Airflow starts the next when the earlier one is lost.

    `suspended` is the holder of this try before it was suspended.
    """

    task_instance: str
    try_number: int
    suspended: str = ""

    def supersedes(self, record: LeaseRecord) -> bool:
        """Whether the lease belongs to an earlier try of this task instance, or to this one before it was suspended."""
        is_own = record.holder == self.suspended != ""
        return is_own or (record.work == self.task_instance and record.try_number < self.try_number)


_ANY_ATTEMPT = TaskAttempt("", 0)


class Lease:
    """The right to compute one key, kept by a heartbeat while the block runs.

    After `commit` the waiting processes use the result. If the block ends without it, all of them compute at once.
    """

    def __init__(self, records: LeaseRecords, number: int, record: LeaseRecord, leases: LeaseStore) -> None:
        self._records = records
        self._number = number
        self._record = record
        self._leases = leases
        self._renewed = leases.clock()
        self._is_open = True
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, name="airflow-zen-lease", daemon=True)

    def commit(self, store_result: Callable[[], object]) -> bool:
        """Call `store_result`, which stores the result in place of the lease, and end the lease; return whether it did.

        A holder that was inactive for so long that another process may have the lease replaces no result.
        """
        self._stop_heartbeats()
        if not self._is_valid() and self._records.has_result():
            return False
        store_result()
        self._is_open = False
        self.release()
        return True

    def release(self) -> None:
        """Delete the records of the lease, where the result is stored already."""
        self._is_open = False
        if self._number:
            self._records.delete(range(1, self._number + 1))

    def suspend(self) -> SuspendedLease | None:
        """Leave the lease to another process, which renews it; None where it is lost, or cannot be written."""
        self._stop_heartbeats()
        self._record = replace(self._record, beat=self._record.beat + 1, stale_after=_SUSPENDED_SECONDS)
        with _suppressed_errors():
            if self._is_valid():
                self._records.write(self._number, self._record)
                self._is_open = False
                return SuspendedLease(self._records.folder, self._records.first, self._number, self._record.holder)
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop_heartbeats()
        if self._is_open and self._is_valid():
            with _suppressed_errors():
                self._records.write(self._number, LeaseRecord(abandoned=self._record.holder))

    def _is_valid(self) -> bool:
        """Whether no other process can have found the lease stale."""
        return self._leases.clock() - self._renewed <= self._leases.stale_after

    def _stop_heartbeats(self) -> None:
        """Wait for a heartbeat that is being written, because it would replace later writes."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _send_heartbeats(self) -> None:
        if not self._closed.wait(min(_FIRST_HEARTBEAT, self._leases.heartbeat)):
            with _suppressed_errors():
                # It is taken: a store that heeds conditions refuses.
                if self._records.create(self._number, self._record):
                    log.warning("This store ignores conditional writes: equal steps that start together all compute.")
        while not self._closed.wait(self._leases.heartbeat) and self._is_valid():
            self._record = replace(self._record, beat=self._record.beat + 1)
            asked_at = self._leases.clock()
            with _suppressed_errors():
                self._records.write(self._number, self._record)
                self._renewed = asked_at


class NullLease(Lease):
    """No lease: the caller computes, and no process waits for its result."""

    def __init__(self) -> None:
        pass

    def commit(self, store_result: Callable[[], object]) -> bool:
        """Call `store_result`; return True."""
        store_result()
        return True

    def suspend(self) -> None:
        """Return None."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        return


NO_LEASE = NullLease()


class SuspendedLease(msgspec.Struct, frozen=True):
    """A lease whose holder has ended, and which others renew, such as the trigger of a deferred task."""

    folder: str
    first: str
    number: int
    holder: str

    def renew(self, transport: Transport) -> bool:
        """Send a heartbeat, which is due every 30 seconds; return False for a lease that another process has."""
        records, record = self._read(transport)
        if record is None:
            return False
        records.write(self.number, replace(record, beat=record.beat + 1))
        return True

    def abandon(self, transport: Transport) -> None:
        """End the lease without a result, unless another process has it; waiting processes then compute."""
        records, record = self._read(transport)
        if record is not None:
            records.write(self.number, LeaseRecord(abandoned=self.holder))

    def _read(self, transport: Transport) -> tuple[LeaseRecords, LeaseRecord | None]:
        records = LeaseRecords(transport, self.folder, first=self.first)
        number, record = records.latest()
        return records, record if record and (number, record.holder) == (self.number, self.holder) else None


class LeaseStore(msgspec.Struct, frozen=True):
    """The leases of a step cache. The first holder's is stored at the key of its result, which then replaces it.

    A holder is dead when its record has not changed for `stale_after` seconds by the waiting process's own clock, so
    the clocks of machines need not agree; a holder writes every `heartbeat` seconds. A later try of the same task
    instance does not wait for an earlier one. Where a store ignores conditional writes several processes hold the
    lease, and all compute. `clock` returns monotonic seconds.
    """

    transport: Transport
    stale_after: float = 20.0
    heartbeat: float = 5.0
    clock: Callable[[], float] = time.monotonic

    def acquire_or_wait(
        self, key: str, find_result: Callable[[], T | None], attempt: TaskAttempt = _ANY_ATTEMPT
    ) -> tuple[T | None, Lease]:
        """Wait until `find_result`, which returned nothing, returns the result at `key`, or the lease is acquired."""
        records = LeaseRecords(self.transport, f"{key.removesuffix('.json')}.lease", first=key)
        try:
            if lease := self._try_acquire(records, 0, attempt):
                return None, lease
            return self._wait(records, find_result, attempt)
        except OSError as error:
            log.warning("Equal steps may be computed twice: the lease at %s cannot be written: %s", key, error)
            return None, NO_LEASE

    def _wait(
        self, records: LeaseRecords, find_result: Callable[[], T | None], attempt: TaskAttempt
    ) -> tuple[T | None, Lease]:
        """Return the result or a lease, or neither when the holder ended without a result."""
        seen, since, waited, pause = None, self.clock(), False, 0.1
        while (result := find_result()) is None:
            # Counted from the request: a store that is slow to answer makes no holder stale.
            asked_at = self.clock()
            number, current = records.latest()
            if current and current.abandoned and waited:
                break
            if current != seen:
                seen, since = current, self.clock()
            # A failure before this process came is no reason to compute together with others now.
            if self._is_free(current, asked_at - since, attempt):
                if lease := self._try_acquire(records, number + 1 if current else 0, attempt):
                    return self._look_again(lease, find_result)
            elif not waited:
                log.info("An equal step is being computed elsewhere: waiting for its result.")
                waited = True
            time.sleep(pause)
            pause = min(pause * 1.5, _MAX_POLL_INTERVAL)
        return result, NO_LEASE

    def _is_free(self, record: LeaseRecord | None, seconds: float, attempt: TaskAttempt) -> bool:
        if record is None or not record.holder:
            return True
        return seconds > (record.stale_after or self.stale_after) or attempt.supersedes(record)

    def _look_again(self, lease: Lease, find_result: Callable[[], T | None]) -> tuple[T | None, Lease]:
        """Return the result stored between the last look and the lease, or the lease."""
        result = find_result()
        if result is None:
            return None, lease
        lease.release()
        return result, NO_LEASE

    def _try_acquire(self, records: LeaseRecords, number: int, attempt: TaskAttempt) -> Lease | None:
        record = LeaseRecord(uuid.uuid4().hex, 0, attempt.task_instance, attempt.try_number)
        return Lease(records, number, record, self) if records.create(number, record) else None


@contextmanager
def _suppressed_errors() -> Iterator[None]:
    """Ignore a failed heartbeat or release: the lease then becomes stale."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a lease is not worth a failed step
        log.debug("A lease could not be written: %s", error)


class StoreLock(msgspec.Struct):
    """A lock that is held with this number and record; `clock` returns seconds since the epoch."""

    records: LeaseRecords
    number: int
    record: LeaseRecord
    clock: Callable[[], float]

    @property
    def allows_new_work(self) -> bool:
        """Whether the holder may begin new work."""
        return self.clock() < self.record.until - _LOCK_SECONDS + _NEW_WORK_SECONDS

    def extend(self) -> bool:
        """Hold the lock for longer where half its time has passed; return whether the holder may begin new work."""
        if not self.allows_new_work:
            return False
        now = self.clock()
        if now > self.record.until - _LOCK_SECONDS + _NEW_WORK_SECONDS / 2:
            self.record = replace(self.record, until=now + _LOCK_SECONDS)
            self.records.write(self.number, self.record)
        return True


@contextmanager
def try_lock(
    transport: Transport, key: str, clock: Callable[[], float], seconds: float = _LOCK_SECONDS
) -> Iterator[StoreLock | None]:
    """Hold the lock at `key` for the block, or `seconds` where it is not extended; None when another process holds it.

    `clock` returns seconds since the epoch; the clocks of all processes must about agree.
    """
    records, now = _lock_records(transport, key), clock()
    mine = LeaseRecord(uuid.uuid4().hex, until=now + seconds)
    number = _acquire_lock(records, mine, now)
    lock = StoreLock(records, number, mine, clock) if number else None
    try:
        yield lock
    finally:
        if lock and records.read(lock.number) == lock.record:
            records.write(lock.number, replace(lock.record, until=0.0))


def is_locked_by(holder: str, transport: Transport, key: str, clock: Callable[[], float]) -> bool:
    """Whether the lock at `key` is held by `holder`; a holder that was killed keeps it until it expires."""
    _, record = _lock_records(transport, key).latest()
    return record is not None and record.holder == holder and clock() < record.until


def _lock_records(transport: Transport, key: str) -> LeaseRecords:
    return LeaseRecords(transport, key.removesuffix(".json"), "{:012}.json")


def _acquire_lock(records: LeaseRecords, mine: LeaseRecord, now: float) -> int | None:
    """Return the number that the lock is held with, and delete earlier ones; None when another process holds it."""
    earlier = records.numbers()
    number = earlier[-1] + 1 if earlier else 1
    if earlier:
        current = records.read(number - 1)
        if current is None or now < current.until:
            return None
    records.create(number, mine)
    # Read again even after success: some S3 servers ignore the condition, and the last writer wins.
    if records.read(number) != mine:
        return None
    records.delete(earlier)
    return number
