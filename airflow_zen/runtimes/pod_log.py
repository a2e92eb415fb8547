"""Positions in the log of a pod, by the timestamps that the cluster adds to each line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

Position = tuple[str, int]
"""The time of a line, and how many lines up to it have that time."""

BEGIN: Position = ("", 0)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def lines_after(lines: Iterable[str], after: Position) -> Iterator[tuple[Position, str]]:
    """Yield the lines after a position, each with its own position; log lines begin with their timestamps.

    Lines without a timestamp are skipped: before the container starts, the API answers with an error as JSON.
    """
    position = BEGIN
    for text in lines:
        stamp, _, line = text.rstrip("\n").partition(" ")
        if not _TIME.match(stamp):
            continue
        position = (stamp, position[1] + 1 if stamp == position[0] else 1)
        if position > after:
            yield position, line


def seconds_since(position: Position) -> int | None:
    """Return the seconds since a position plus a margin of 2; None for the beginning."""
    if not position[0]:
        return None
    then = datetime.fromisoformat(position[0][:19]).replace(tzinfo=UTC)
    return max(1, int((datetime.now(UTC) - then).total_seconds()) + 2)
