"""Materializers that a project adds: by decorator in its own files, by entry point in a distribution."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar, overload

from airflow_zen.errors import MaterializerDefinitionError, MaterializerNotFound
from airflow_zen.materializers.base import Materializer, entry_name, is_materializer

ENTRY_POINT_GROUP = "airflow_zen.materializers"

M = TypeVar("M", bound=type[Materializer])

# By name: Airflow may import a DAG file twice, and the later class replaces the earlier one.
_REGISTERED: dict[str, tuple[type[Materializer], bool]] = {}


@overload
def register_materializer(materializer: M) -> M: ...


@overload
def register_materializer(*, replace: bool) -> Callable[[M], M]: ...


def register_materializer(materializer: M | None = None, *, replace: bool = False) -> M | Callable[[M], M]:
    """Make a materializer known to every step that runs in a process which has imported its module.

    Write it in the DAG file, or in a module that the DAG file imports. With `replace=True` it saves its types instead of
    the materializer that saved them before; without it, such a conflict is an error when the first step runs.
    """

    def decorate(cls: M) -> M:
        if not is_materializer(cls):
            raise MaterializerDefinitionError(
                f"@register_materializer goes on a subclass of airflow_zen.Materializer that has an encoding, got {cls!r}."
            )
        for method in ("save", "load"):
            if getattr(cls, method) is getattr(Materializer, method):
                name = cls.__qualname__
                raise MaterializerDefinitionError(f"{name} has no method {method}, which a materializer needs.")
        _REGISTERED[entry_name(cls)] = (cls, replace)
        return cls

    return decorate if materializer is None else decorate(materializer)


def registered_materializers() -> list[tuple[type[Materializer], bool]]:
    """Return the materializers decorated in this process so far, and whether each replaces others."""
    return list(_REGISTERED.values())


@cache
def entry_point_materializers() -> tuple[type[Materializer], ...]:
    """Import the materializers that installed distributions offer; raise `MaterializerNotFound` for one that fails."""
    # Reading the metadata of every distribution costs tens of milliseconds, and most offer nothing.
    wanted = f"[{ENTRY_POINT_GROUP}]".encode()
    files = (file for folder in sys.path for file in Path(folder).glob("*-info/entry_points.txt"))
    if not any(wanted in file.read_bytes() for file in files):
        return ()
    found = []
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        where = f"The entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a distribution'}"
        try:
            cls = point.load()
        except Exception as error:
            raise MaterializerNotFound(f"{where} cannot be imported: {error}. Fix or uninstall it.") from error
        if not is_materializer(cls):
            raise MaterializerNotFound(
                f"{where} is no subclass of airflow_zen.Materializer with an encoding. Fix or uninstall it."
            )
        found.append(cls)
    return tuple(found)


def project_materializers(cls: type[Materializer] = Materializer) -> Iterator[type[Materializer]]:
    """Yield the subclasses of `Materializer` that this process has imported, registered or not, except the built-in ones."""
    for found in cls.__subclasses__():
        if not found.__module__.startswith("airflow_zen.") and hasattr(found, "encoding"):
            yield found
        yield from project_materializers(found)


def unregistered_hint(materializer: type[Materializer]) -> str:
    """Return the explanation of an error that is caused by a materializer nobody registered."""
    return (
        f"{entry_name(materializer)} is a Materializer for it, but is not registered. Decorate it with @register_materializer, "
        f"or name it where it is used: Annotated[T, Artifact(materializer={materializer.__qualname__})]."
    )
