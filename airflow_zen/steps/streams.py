"""Values that come batch by batch, declared as `Iterator[T]`."""

from __future__ import annotations

import collections.abc
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from airflow_zen.errors import ZenError
from airflow_zen.steps.annotations import bare
from airflow_zen.steps.fit import fit

_STREAMS = (collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable)


class BatchFailed(ZenError):
    """The step's own code raised while its next batch was asked for; its error is the cause."""


def is_stream(declared: Any) -> bool:
    """Tell whether a declared type asks for batches: `Iterator[T]`, `Generator[T, …]`, `Iterable[T]`."""
    return get_origin(declared) in _STREAMS or declared in _STREAMS


def batch_type(declared: Any) -> Any:
    """Give `T` of `Iterator[T]`; None where it is not said."""
    arguments = get_args(declared) if is_stream(declared) else ()
    return bare(arguments[0]) if arguments else None


def fitted(value: Any, declared: Any, name: str) -> Any:
    """Hold a returned value against its declared type; an iterator's batches one by one, when they are asked for."""
    value = fit(value, declared, name)
    if isinstance(value, Iterator) and (declared is None or is_stream(declared)):
        return _fitted_batches(value, batch_type(declared), name)
    return value


def _fitted_batches(batches: Iterator[Any], declared: Any, name: str) -> Iterator[Any]:
    number = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise BatchFailed(f"batch {number} of output {name!r} could not be made") from error
        yield fit(batch, declared, f"{name}[{number}]")
        number += 1
