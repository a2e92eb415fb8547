"""Timeouts of the clients of stores and of MLflow."""

from __future__ import annotations

import math

import msgspec


class Timeouts(msgspec.Struct, frozen=True):
    """Limit how long a transport waits, in seconds.

    connect: for a connection. read: for the next bytes of a response. write: for a request that uploads or copies a
    file or a part of one, and for the next bytes of an upload. retry: a failed request is not repeated after this time.
    answer: for a whole answer of MLflow, however slowly its bytes arrive.
    """

    connect: float = 10.0
    read: float = 30.0
    # Twelve parts of 5 MiB share the line: at 0.2 MB per second they arrive in time.
    write: float = 300.0
    retry: float = 180.0
    answer: float = math.inf


DEFAULT_TIMEOUTS = Timeouts()
