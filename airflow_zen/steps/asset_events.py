"""What a step's function yields before its result: Airflow's `yield Metadata(asset, extra)`, then `return value`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any


def take_events(made: Generator[Any, Any, Any], take: Callable[[Any], bool], *, is_stream: bool) -> Any:
    """Return what a generator returns after its events, or an iterator of the batches that it yields.

    `take` handles an event and returns True, or returns False for a batch. With `is_stream` the function is declared to
    yield batches, and none is made before it is asked for.
    """
    batches = (item for item in made if not take(item))
    if is_stream:
        return batches
    try:
        while take(first := next(made)):
            pass
    except StopIteration as end:
        return end.value
    return _with_first(first, batches)


def _with_first(first: Any, batches: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from batches
