"""How long a store that is asked over the network is waited for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Bound the waiting, in seconds.

    connect: for a connection. read: for the next bytes of an answer. write: until a request that carries a file, or
    a part of one, or has the store copy one, is done; as long as that no byte of a file may move. retry: after so long a
    request that failed is not sent again.
    """

    connect: float = 10.0
    read: float = 30.0
    # Twelve parts of 5 MiB share the line: one that carries 0.2 MB a second brings them over in time.
    write: float = 300.0
    retry: float = 180.0


DEFAULT_TIMEOUTS = Timeouts()
