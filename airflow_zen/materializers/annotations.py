"""Say in an annotation how an output is called, who stores it, and whether it is shown."""

from __future__ import annotations

import collections.abc
import types
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import PurePath
from typing import Annotated, Any, Union, get_args, get_origin

from airflow_zen.artifacts.version import validate_artifact_name
from airflow_zen.errors import MaterializerDefinitionError
from airflow_zen.materializers.base import Materializer, is_materializer
from airflow_zen.type_names import type_name


@dataclass(frozen=True)
class Artifact:
    """Name an output, or choose its materializer: `-> Annotated[pd.DataFrame, Artifact("features")]`.

    `name` takes the place of `<dag>/<task>`, and is one history of versions, whichever step writes it.
    `materializer` stores this output alone; on a parameter it says who reads what a materializer that is not
    registered wrote. `previews=False` makes no preview of the output, `True` one whatever the deployment says.
    Raises `ArtifactNameError` for a name that cannot be one.
    """

    name: str = ""
    _: KW_ONLY
    materializer: type[Materializer] | None = None
    previews: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a name, or what is no materializer, where it is written."""
        if self.name:
            validate_artifact_name(self.name)
        if self.materializer is not None and not is_materializer(self.materializer):
            raise MaterializerDefinitionError(
                f"Artifact(materializer=…) takes a subclass of airflow_zen.Materializer that has an encoding, got "
                f"{self.materializer!r}."
            )


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


def strip_annotation(declared: Any) -> Any:
    """Strip `Annotated[T, …]` and `T | None` down to `T`; `Columns` stay."""
    if declared is None:
        return None
    if columns_marker(declared):
        return declared
    if get_origin(declared) is Annotated:
        return strip_annotation(get_args(declared)[0])
    if is_union(declared):
        rest = [choice for choice in get_args(declared) if choice is not type(None)]
        return strip_annotation(rest[0]) if len(rest) == 1 else declared
    return declared


def element_type(declared: Any, at: int = 0) -> Any:
    """Give `T` of `list[T]`, `tuple[T, ...]`, `dict[K, T]`, and the one at its place of `tuple[A, B]`."""
    if declared is None:
        return None
    declared = strip_annotation(declared)
    arguments = get_args(declared)
    if not arguments:
        return None
    if get_origin(declared) is tuple and Ellipsis not in arguments:
        return strip_annotation(arguments[at]) if at < len(arguments) else None
    return strip_annotation([argument for argument in arguments if argument is not Ellipsis][-1])


def is_union(declared: Any) -> bool:
    """Tell whether a declared type is `X | Y`, however that is written."""
    return get_origin(declared) in (Union, types.UnionType)


def contains_path(declared: Any) -> bool:
    """Tell whether a declared type is a path, or has one in it: `dict[str, Path]`."""
    if isinstance(declared, type) and issubclass(get_origin(declared) or declared, PurePath):
        return True
    return any(map(contains_path, get_args(declared)))
