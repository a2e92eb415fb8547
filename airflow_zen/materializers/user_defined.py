"""A project's own code, and the materializers that it adds: by decorator in its files, by entry point in a distribution."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, overload

from airflow_zen.errors import MaterializerDefinitionError, MaterializerNotFound
from airflow_zen.materializers.base import Materializer, entry_name, is_materializer
from airflow_zen.type_names import definition_name

ENTRY_POINT_GROUP = "airflow_zen.materializers"

M = TypeVar("M", bound=type[Materializer])

# By name: Airflow may import a DAG file twice, and the later class replaces the earlier one.
_REGISTERED: dict[str, tuple[type[Materializer], bool]] = {}

FRAMEWORK = frozenset({"airflow", "airflow_zen", "mlflow"})
_SITE_PACKAGES = re.compile(r"[/\\](site|dist)-packages([/\\]|$)")
_STDLIB_FOLDERS = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))


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


@cache
def is_project_module(name: str) -> bool:
    """Whether a loaded module is the project's own: not Python's, the framework's, or of an installed distribution."""
    top = name.partition(".")[0]
    if not name or top in FRAMEWORK or top in sys.stdlib_module_names:
        return False
    file = str(getattr(sys.modules.get(name), "__file__", None) or "")
    return not _SITE_PACKAGES.search(file) and not file.startswith(_STDLIB_FOLDERS)


def is_project_package(name: str) -> bool:
    """Whether a top-level package or module, loaded or not, is the project's own; nothing is imported to find out."""
    if name in FRAMEWORK or name in sys.stdlib_module_names:
        return False
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else [""]
    return not any(_SITE_PACKAGES.search(place) or place.startswith(_STDLIB_FOLDERS) for place in places)


def project_code(definitions: Iterable[Any]) -> list[str]:
    """Return the names of those classes, functions and modules that are the project's."""
    own = (found for found in definitions if is_project_module(_module_of(found)))
    return sorted(set(map(definition_name, own)))


def _module_of(definition: Any) -> str:
    return str(definition.__name__ if isinstance(definition, ModuleType) else getattr(definition, "__module__", ""))
