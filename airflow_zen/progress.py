"""Progress of long work, reported to a callback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TypeVar

import msgspec

T = TypeVar("T")

BytesCallback = Callable[[int], None]


class Progress(msgspec.Struct, frozen=True):
    """The progress of one stage: `done` of `total` items, or bytes with `in_bytes`; `total` is None while unknown."""

    stage: str
    done: int = 0
    total: int | None = None
    note: str = ""
    in_bytes: bool = False


ProgressCallback = Callable[[Progress], None]


def ignore_progress(_progress: Progress) -> None:
    """Ignore progress."""


def ignore_bytes(_count: int) -> None:
    """Ignore transferred bytes."""


def track_items(items: Iterable[T], stage: str, on_progress: ProgressCallback, total: int | None = None) -> Iterator[T]:
    """Yield the items, and report each when the next is requested; a stage without items reports nothing."""
    if total != 0:
        on_progress(Progress(stage, 0, total))
    for done, item in enumerate(items, 1):
        yield item
        on_progress(Progress(stage, done, total))


def byte_counter(stage: str, on_progress: ProgressCallback, total: int | None = None) -> BytesCallback:
    """Return a function that adds up transferred bytes of all threads, and reports the sum."""
    lock, done = Lock(), 0

    def add_bytes(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            on_progress(Progress(stage, done, total, in_bytes=True))

    add_bytes(0)
    return add_bytes
