"""Values that come batch by batch, declared as `Iterator[T]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_zen.errors import ZenError
from airflow_zen.materializers.declared import bare
from airflow_zen.materializers.views import batch_type, is_stream
from airflow_zen.steps.fit import fit
from airflow_zen.steps.place import Place


class BatchFailed(ZenError):
    """The step's own code raised while its next batch was asked for; its error is the cause."""


def fitted(value: Any, declared: Any, name: str) -> Any:
    """Hold a returned value against its declared type; an iterator's batches one by one, when they are asked for."""
    value = fit(value, declared, Place(name))
    if isinstance(value, Iterator) and (declared is None or is_stream(declared)):
        return _fitted_batches(value, bare(batch_type(declared)), name)
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
        yield fit(batch, declared, Place(f"{name}[{number}]"))
        number += 1
