"""What long work says of how far it is, to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TypeVar

import msgspec

T = TypeVar("T")

BytesCallback = Callable[[int], None]


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


ProgressCallback = Callable[[Progress], None]


def ignore_progress(_progress: Progress) -> None:
    """Tell nobody how far work is."""


def ignore_bytes(_count: int) -> None:
    """Tell nobody of bytes that moved."""


def track_items(items: Iterable[T], stage: str, on_progress: ProgressCallback, total: int | None = None) -> Iterator[T]:
    """Give the items one by one, and tell of each once it is done with; of a stage without any, nothing."""
    if total != 0:
        on_progress(Progress(stage, 0, total))
    for done, item in enumerate(items, 1):
        yield item
        on_progress(Progress(stage, done, total))


def byte_counter(stage: str, on_progress: ProgressCallback, total: int | None = None) -> BytesCallback:
    """Give a function that sums up the bytes which any thread says it moved, and tells of the sum."""
    lock, done = Lock(), 0

    def add_bytes(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            on_progress(Progress(stage, done, total, in_bytes=True))

    add_bytes(0)
    return add_bytes
