"""Values that come batch by batch, declared as `Iterator[T]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_zen.errors import ZenError
from airflow_zen.materializers.declared import strip_annotation
from airflow_zen.materializers.views import batch_type, is_stream_annotation
from airflow_zen.steps.fit import coerce
from airflow_zen.steps.place import ValuePath


class BatchError(ZenError):
    """The step's own code raised while its next batch was asked for; its error is the cause."""


def coerce_output(value: Any, declared: Any, name: str) -> Any:
    """Hold a returned value against its declared type; an iterator's batches one by one, when they are asked for."""
    value = coerce(value, declared, ValuePath(name))
    if isinstance(value, Iterator) and (declared is None or is_stream_annotation(declared)):
        return _coerce_batches(value, strip_annotation(batch_type(declared)), name)
    return value


def _coerce_batches(batches: Iterator[Any], declared: Any, name: str) -> Iterator[Any]:
    number = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise BatchError(f"batch {number} of output {name!r} could not be made") from error
        yield coerce(batch, declared, ValuePath(f"{name}[{number}]"))
        number += 1
