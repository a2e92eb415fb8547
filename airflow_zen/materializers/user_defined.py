"""Materializers that a project adds: by decorator in its own files, by entry point in a distribution."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar, overload

import msgspec

from airflow_zen.errors import AlreadyExists, MaterializerDefinitionError, MaterializerNotFound
from airflow_zen.materializers.base import Materializer, entry_name, is_materializer
from airflow_zen.type_names import module_name

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


_OWN_PACKAGE = f"{__name__.partition('.')[0]}."


class SubclassMaterializers(msgspec.Struct, frozen=True):
    """Find a materializer among classes by what each says of itself: its own `types` and its own `encoding`.

    They are asked last, so none of them takes a type or an encoding from another one by accident.
    """

    classes: tuple[type[Materializer], ...] = ()

    def for_type(self, name: str) -> type[Materializer] | None:
        """Give the one that saves a type; raises `AlreadyExists` where several do."""
        return _require_one(name, (cls for cls in self.classes if "types" in vars(cls) and name in cls.type_names()))

    def for_encoding(self, encoding: str) -> type[Materializer] | None:
        """Give the one that reads an encoding; raises `AlreadyExists` where several do."""
        return _require_one(encoding, (cls for cls in self.classes if cls.can_read(encoding)))


def subclass_materializers() -> SubclassMaterializers:
    """Give the subclasses of `Materializer` in the modules that this process has imported, but for our own.

    Of a module that is imported twice, as Airflow may import a DAG file, the later one.
    """
    found = (cls for cls in _all_subclasses(Materializer) if not cls.__module__.startswith(_OWN_PACKAGE))
    return SubclassMaterializers(tuple({entry_name(cls): cls for cls in found if hasattr(cls, "encoding")}.values()))


def _all_subclasses(cls: type[Materializer]) -> Iterator[type[Materializer]]:
    for found in cls.__subclasses__():
        yield found
        yield from _all_subclasses(found)


def _require_one(what: str, found: Iterable[type[Materializer]]) -> type[Materializer] | None:
    classes = list(found)
    if len(classes) > 1:
        raise AlreadyExists(
            f"{' and '.join(sorted(map(entry_name, classes)))} are both materializers of {what}. Decorate the one that is "
            "meant with @register_materializer, or name it on the outputs that it is for: "
            f"Annotated[T, Artifact(materializer={classes[0].__qualname__})]."
        )
    return classes[0] if classes else None
