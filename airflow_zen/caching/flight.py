"""Single flight: of equal steps that start together one computes, and the others wait for its result."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import AlreadyExists, ArtifactNotFound

log = logging.getLogger("airflow_zen.caching")

T = TypeVar("T")


class Attempt(msgspec.Struct, frozen=True):
    """Name one of several tries of the same work, of which at most one is wanted at a time."""

    work: str
    number: int

    def supersedes(self, lease: bytes) -> bool:
        """Tell whether the lease is of an earlier try of this work, which Airflow has given up."""
        try:
            holder = json.loads(lease)
            return bool(holder["work"] == self.work and holder["try"] < self.number)
        except (ValueError, KeyError, TypeError):
            return False


_LONGEST_PAUSE = 2.0
_FIRST_BEAT = 1.0


class Flight:
    """The right to compute one key, kept alive by a heartbeat while the block lasts.

    Leaving the block with a result lets the others take it. Leaving it with an exception, or after
    `abandon`, lets them all compute for themselves, at once.
    """

    def __init__(self, transport: Transport, lease: str, beat: float, attempt: Attempt | None) -> None:
        self._transport = transport
        self._lease = lease
        self._beat = beat
        self._attempt = {"work": attempt.work, "try": attempt.number} if attempt else {}
        self._holder = uuid.uuid4().hex
        self._over = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._keep_alive, name="airflow-zen-lease", daemon=True)

    def claim(self) -> None:
        """Take the lease; raises `AlreadyExists` when another has it."""
        self._transport.create(self._lease, self._mark(0))

    def abandon(self) -> None:
        """There will be no result to wait for."""
        self._abandoned = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        _quietly(self._give_up if kind or self._abandoned else self._land)

    def _land(self) -> None:
        folder, _, number = self._lease.rpartition("/")
        self._transport.delete([f"{folder}/{_name(n)}" for n in range(int(number) + 1)])

    def _give_up(self) -> None:
        self._transport.write(self._lease, json.dumps({"abandoned": self._holder}).encode())

    def _keep_alive(self) -> None:
        """Beat until the block is left; the first time, see that the store would have refused a second holder."""
        if not self._over.wait(min(_FIRST_BEAT, self._beat)):
            _quietly(self._try_conditions)
        count = 0
        while not self._over.wait(self._beat):
            count += 1
            mark = self._mark(count)
            _quietly(lambda mark=mark: self._transport.write(self._lease, mark))  # type: ignore[misc]

    def _try_conditions(self) -> None:
        try:
            self._transport.create(self._lease, self._mark(0))
        except AlreadyExists:
            return
        log.warning("This store ignores conditional writes: equal steps that start together are all computed.")

    def _mark(self, count: int) -> bytes:
        return json.dumps({"holder": self._holder, "beat": count, **self._attempt}).encode()


class NoFlight(Flight):
    """Compute without a lease: nobody waits for the result, and nobody is asked."""

    def __init__(self) -> None:
        """Need nothing."""

    def abandon(self) -> None:
        """Have nothing to give up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        return


class SingleFlight:
    """Hand out leases under `cache/` of the artifact root.

    A holder that dies is noticed when its lease has not changed for `patience` seconds, by the
    waiter's own clock, so clocks of machines need not agree; a holder writes every `beat` seconds.
    A later try of the same work waits for no earlier one: Airflow starts it when the earlier is lost.
    A store that ignores conditional writes hands a lease to several, who then all compute.
    `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        transport: Transport,
        patience: float = 20.0,
        beat: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._beat = beat
        self._clock = clock

    def turn(self, key: str, find: Callable[[], T | None], attempt: Attempt | None = None) -> tuple[T | None, Flight]:
        """Wait until `find` gives a result, or until it is ours to compute; one request where nobody else is at it."""
        try:
            return self._turn(f"cache/{key[:2]}/{key}.lease", find, attempt)
        except OSError as error:
            log.warning("Equal steps may be computed twice: the lease of %s cannot be written: %s", key[:12], error)
            return None, NoFlight()

    def _turn(self, folder: str, find: Callable[[], T | None], attempt: Attempt | None) -> tuple[T | None, Flight]:
        flight = self._claim(f"{folder}/{_name(0)}", attempt)
        if flight:
            return self._checked(flight, find)
        watch, waited, pause = _Watch(self._patience, self._clock), False, 0.1
        while True:
            if (result := find()) is not None:
                return result, NoFlight()
            asked = self._clock()
            latest, text = self._latest(folder)
            abandoned = text is not None and b"abandoned" in text
            if abandoned and waited:
                return find(), NoFlight()
            # What failed before we came is no reason not to take turns now.
            if text is None or abandoned or watch.is_stale(text, asked) or (attempt and attempt.supersedes(text)):
                flight = self._claim(f"{folder}/{_name(latest + 1)}", attempt)
                if flight:
                    return self._checked(flight, find)
            elif not waited:
                log.info("An equal step is being computed elsewhere: waiting for its result.")
                waited = True
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _checked(self, flight: Flight, find: Callable[[], T | None]) -> tuple[T | None, Flight]:
        """Look once more before computing: the result may have come between the last look and the lease."""
        result = find()
        if result is None:
            return None, flight
        with flight:
            return result, NoFlight()

    def _claim(self, lease: str, attempt: Attempt | None) -> Flight | None:
        flight = Flight(self._transport, lease, self._beat, attempt)
        try:
            flight.claim()
        except AlreadyExists:
            return None
        return flight

    def _latest(self, folder: str) -> tuple[int, bytes | None]:
        """Give the number and text of the latest lease; -1 and None where there is none."""
        keys = list(self._transport.list(folder))
        if not keys:
            return -1, None
        try:
            return int(keys[-1].rpartition("/")[2]), self._transport.read(keys[-1])
        except ArtifactNotFound:
            return -1, None


class _Watch:
    """Notice that a lease has stopped changing, whatever time the store takes to answer."""

    def __init__(self, patience: float, clock: Callable[[], float]) -> None:
        self._patience = patience
        self._clock = clock
        self._text = b""
        self._since = clock()

    def is_stale(self, text: bytes, asked: float) -> bool:
        """Tell whether the text that was asked for at that time had been known for longer than the patience."""
        if text != self._text:
            self._text, self._since = text, self._clock()
        return asked - self._since > self._patience


def _name(number: int) -> str:
    return f"{number:06}"


def _quietly(work: Callable[[], object]) -> None:
    """Do without a heartbeat or a release that the store refuses: the others take over when the lease is stale."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - a lease is never worth a step
        log.debug("A lease could not be written: %s", error)
