"""A proxy before a real server that counts waves: requests that are sent together, before any of them is answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from tests.servers.flaky import Failure, FlakyProxy

# Seconds without a new request after which a wave is complete.
_QUIET = 0.5


class WaveProxy(FlakyProxy):
    """Hold each request until no other has come for a while, then forward all of them.

    `waves` are the requests of each wave, as method and path; their number is how many requests were waited for one
    after the other.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.waves: list[list[str]] = []
        self._condition = Condition()
        self._open: list[str] | None = None
        self._latest = 0.0

    def fate(self, request: str) -> Failure | None:
        """Hold a request until its wave is complete."""
        with self._condition:
            if self._open is None:
                self._open = []
                self.waves.append(self._open)
            wave, self._latest = self._open, time.monotonic()
            wave.append(request)
            while self._open is wave and (left := self._latest + _QUIET - time.monotonic()) > 0:
                self._condition.wait(left)
            if self._open is wave:
                self._open = None
                self._condition.notify_all()
        return super().fate(request)


@contextmanager
def in_waves(port: int) -> Iterator[WaveProxy]:
    """Run the proxy."""
    with WaveProxy(port) as proxy:
        yield proxy
