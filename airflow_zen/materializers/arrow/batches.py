"""Tables that arrive batch by batch, of which all must be alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TypeVar

import pyarrow as pa

from airflow_zen.errors import SaveRefused

T = TypeVar("T")


def peek_batch(batches: Iterator[T]) -> tuple[T, Iterator[T]]:
    """Give the first batch, and all of them."""
    first = next(batches)
    return first, chain([first], batches)


def check_same_schema(number: int, schema: pa.Schema, first: pa.Schema) -> None:
    """Refuse a batch whose columns differ from those of the first; metadata does not count."""
    if schema.equals(first):
        return
    if schema.names != first.names:
        raise SaveRefused(
            f"Batch {number} has the columns {schema.names}, the first has {first.names}. Yield the same columns each time."
        )
    name, dtype = next((field.name, field.type) for field, other in zip(schema, first, strict=True) if field != other)
    raise SaveRefused(
        f"Batch {number} has column {name!r} as {dtype}, the first has it as {first.field(name).type}. Give the column one "
        f"dtype in all batches, for example by dtype= where it is read."
    )
