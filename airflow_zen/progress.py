"""What long work says of how far it is, to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TypeVar

import msgspec

T = TypeVar("T")

Moved = Callable[[int], None]


class Progress(msgspec.Struct, frozen=True):
    """How far a stage of some work is.

    `done` counts what `stage` names, bytes where `in_bytes` says so, of `total`, which is None where nobody knows it
    before the end. `note` is what else is known by now.
    """

    stage: str
    done: int = 0
    total: int | None = None
    note: str = ""
    in_bytes: bool = False


Tell = Callable[[Progress], None]


def unheard(_progress: Progress) -> None:
    """Tell nobody how far work is."""


def unseen(_count: int) -> None:
    """Tell nobody of bytes that moved."""


def counted(items: Iterable[T], stage: str, tell: Tell, total: int | None = None) -> Iterator[T]:
    """Give the items one by one, and tell of each once it is done with; of a stage without any, nothing."""
    if total != 0:
        tell(Progress(stage, 0, total))
    for done, item in enumerate(items, 1):
        yield item
        tell(Progress(stage, done, total))


def summed(stage: str, tell: Tell, total: int | None = None) -> Moved:
    """Give a function that sums up the bytes which any thread says it moved, and tells of the sum."""
    lock, done = Lock(), 0

    def moved(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            tell(Progress(stage, done, total, in_bytes=True))

    moved(0)
    return moved
