"""The log of a step's container: lines with the times that the cluster gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

Position = tuple[str, int]
"""The time of a line, and how many lines up to it have that time."""

BEGIN: Position = ("", 0)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def lines_after(lines: Iterable[str], after: Position) -> Iterator[tuple[Position, str]]:
    """Yield the lines after a position, each with its own; `lines` begin with their times.

    Others are not of the log: before the container starts, the answer is an error as JSON.
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
    """Return how long ago a position was, in seconds and a few more; None for the beginning."""
    if not position[0]:
        return None
    then = datetime.fromisoformat(position[0][:19]).replace(tzinfo=UTC)
    return max(1, int((datetime.now(UTC) - then).total_seconds()) + 2)
