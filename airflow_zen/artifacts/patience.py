"""How long a store that is asked over the network is waited for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """Bound the waiting, in seconds.

    connect: for a connection. answer: for the next bytes of an answer. sending: until a request that carries a file, or
    a part of one, or has the store copy one, is done; as long as that no byte of a file may move. again: after so long a
    request that failed is not sent again.
    """

    connect: float = 10.0
    answer: float = 30.0
    # Twelve parts of 5 MiB share the line: one that carries 0.2 MB a second brings them over in time.
    sending: float = 300.0
    again: float = 180.0


DEFAULT_PATIENCE = Patience()
