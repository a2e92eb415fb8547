"""Materializers that a project adds: by decorator in its own files, by entry point in a distribution."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar, overload

from airflow_zen.errors import MaterializerDefinitionError, MaterializerNotFound
from airflow_zen.materializers.base import Materializer, is_materializer
from airflow_zen.materializers.names import module_name

ENTRY_POINT_GROUP = "airflow_zen.materializers"

M = TypeVar("M", bound=type[Materializer])

# A decorator has no other place to leave a class at. Keyed by name: Airflow may import a DAG file twice.
_REGISTERED: dict[str, tuple[type[Materializer], bool]] = {}


@overload
def register_materializer(materializer: M) -> M: ...


@overload
def register_materializer(*, replace: bool) -> Callable[[M], M]: ...


def register_materializer(materializer: M | None = None, *, replace: bool = False) -> M | Callable[[M], M]:
    """Make a materializer known to every step that runs in a process which has imported its module.

    Write it in the DAG file, or in a module that the DAG file imports. `replace=True` takes the place of
    whoever saves its types until now; without it, that is an error when the first step runs.
    """

    def decorate(cls: M) -> M:
        if not is_materializer(cls):
            raise MaterializerDefinitionError(
                f"@register_materializer goes on a subclass of airflow_zen.Materializer that has an encoding, got {cls!r}."
            )
        for method in ("save", "load"):
            if getattr(cls, method) is getattr(Materializer, method):
                raise MaterializerDefinitionError(
                    f"{cls.__qualname__} has no method {method}, which a materializer needs."
                )
        _REGISTERED[f"{module_name(cls)}:{cls.__qualname__}"] = (cls, replace)
        return cls

    return decorate if materializer is None else decorate(materializer)


def registered_materializers() -> list[tuple[type[Materializer], bool]]:
    """Give the materializers decorated in this process so far, and whether each replaces others."""
    return list(_REGISTERED.values())


@cache
def entry_point_materializers() -> tuple[type[Materializer], ...]:
    """Import the materializers that installed distributions offer; raises `MaterializerNotFound` for one that fails."""
    found = []
    # Reading the metadata of every distribution costs tens of milliseconds, and most offer nothing.
    if not _any_entry_point():
        return ()
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        where = f"The entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a distribution'}"
        try:
            cls = point.load()
        except Exception as error:
            raise MaterializerNotFound(f"{where} cannot be imported: {error}. Mend or uninstall it.") from error
        if not is_materializer(cls):
            raise MaterializerNotFound(
                f"{where} is no subclass of airflow_zen.Materializer with an encoding. Mend or uninstall it."
            )
        found.append(cls)
    return tuple(found)


def _any_entry_point() -> bool:
    """Tell, from the files alone, whether some distribution names the group."""
    wanted = f"[{ENTRY_POINT_GROUP}]".encode()
    folders = (Path(folder) for folder in sys.path if Path(folder).is_dir())
    return any(wanted in file.read_bytes() for folder in folders for file in folder.glob("*-info/entry_points.txt"))
