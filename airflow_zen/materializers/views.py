"""What a parameter asks of a stored table: some of its columns, or all of it batch by batch."""

from __future__ import annotations

import collections.abc
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args, get_origin

from airflow_zen.materializers.names import type_name

_STREAM_TYPES = (collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable)


class Columns:
    """Mark a parameter that needs some columns only: `Annotated[pd.DataFrame, Columns("a", "b")]` reads no others."""

    def __init__(self, *names: str) -> None:
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError(f"Columns takes names of columns, such as Columns('a', 'b'), got {names!r}.")
        if len(set(names)) < len(names):
            raise TypeError(f"Columns names each column once, got {names!r}. Leave the second out.")
        self.names = names

    def __repr__(self) -> str:
        return f"Columns({', '.join(map(repr, self.names))})"


@dataclass(frozen=True)
class View:
    """A declared type taken apart: the class, the `columns` it is limited to, and whether it comes in `batches`."""

    cls: type | None = None
    columns: tuple[str, ...] = ()
    batches: bool = False

    @classmethod
    def of(cls, declared: Any) -> View:
        """Read a declared type; a class that cannot be told is None."""
        if is_stream_annotation(declared):
            inner = cls.of(batch_type(declared))
            return cls(inner.cls, inner.columns, batches=True)
        columns = columns_marker(declared)
        if columns:
            return replace(cls.of(get_args(declared)[0]), columns=columns.names)
        if get_origin(declared) is Annotated:
            return cls.of(get_args(declared)[0])
        origin = get_origin(declared) or declared
        return cls(origin if isinstance(origin, type) else None)

    def __str__(self) -> str:
        name = type_name(self.cls) if self.cls else "any"
        name = f"{name}{list(self.columns)}" if self.columns else name
        return f"Iterator[{name}]" if self.batches else name


def columns_marker(declared: Any) -> Columns | None:
    """Give the `Columns` of `Annotated[T, Columns(…)]`."""
    if get_origin(declared) is not Annotated:
        return None
    return next((mark for mark in get_args(declared)[1:] if isinstance(mark, Columns)), None)


def is_stream_annotation(declared: Any) -> bool:
    """Tell whether a declared type asks for batches: `Iterator[T]`, `Generator[T, …]`, `Iterable[T]`."""
    return get_origin(declared) in _STREAM_TYPES or declared in _STREAM_TYPES


def batch_type(declared: Any) -> Any:
    """Give `T` of `Iterator[T]`; None where it is not said."""
    arguments = get_args(declared) if is_stream_annotation(declared) else ()
    return arguments[0] if arguments else None
