"""Refer to a user's class by name, and find it again in another process."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from airflow_zen.errors import ArtifactRefused, MaterializerNotFound, SaveRefused
from airflow_zen.materializers.names import loaded_modules_named, module_name


def class_reference(cls: type) -> str:
    """Write a class as `module:qualname`, the same on every machine.

    Raises `SaveRefused` for a class that no import could find again.
    """
    if "[" in cls.__qualname__:
        raise SaveRefused(
            f"{cls.__module__}.{cls.__qualname__} is made when it is asked for, and cannot be found again by its name. Give it "
            f"one: class Named({cls.__qualname__}): ..."
        )
    module = sys.modules.get(cls.__module__)
    if module is None or _class_attribute(module, cls.__qualname__) is None:
        raise SaveRefused(
            f"{cls.__module__}.{cls.__qualname__} cannot be found again by its name. Define the class at the top level "
            f"of a module."
        )
    return f"{module_name(cls)}:{cls.__qualname__}"


def resolve_class(name: str, wanted: Any = None) -> type:
    """Find the class behind `module:qualname`.

    First comes what the consumer declared as `wanted`, and the module of that, then loaded modules of that name (a DAG file is
    one under Airflow's own spelling), then an import. Raises `MaterializerNotFound` when it is nowhere,
    `ArtifactRefused` when two DAG files of that name define it.
    """
    module, _, qualname = name.partition(":")
    for cls in _classes_in_annotation(wanted):
        if module_name(cls) == module:
            found = cls if cls.__qualname__ == qualname else _class_attribute(sys.modules.get(cls.__module__), qualname)
            if found is not None:
                return found
    loaded = {id(cls): cls for cls in _loaded_classes(module, qualname)}
    if len(loaded) > 1:
        raise ArtifactRefused(
            f"{name} is defined by several loaded DAG files named {module!r}. Annotate the parameter with the one you "
            f"mean, or rename a file."
        )
    return next(iter(loaded.values()), None) or _import_class(module, qualname)


def _classes_in_annotation(declared: Any) -> Iterator[type]:
    """Yield the classes a declared type is made of: `list[Point]` speaks of `Point` too."""
    if isinstance(declared, type):
        yield declared
    for argument in typing.get_args(declared):
        yield from _classes_in_annotation(argument)


def _loaded_classes(module: str, qualname: str) -> Iterator[type]:
    for name in loaded_modules_named(module):
        cls = _class_attribute(sys.modules[name], qualname)
        if cls is not None:
            yield cls
            if name == module:
                return


def _import_class(module: str, qualname: str) -> type:
    try:
        cls = _class_attribute(import_module(module), qualname)
    except ImportError as error:
        raise MaterializerNotFound(
            f"The class {module}:{qualname} is needed to load this artifact, and {module!r} cannot be imported here: "
            f"{error}. Make it importable, or declare the class on the parameter."
        ) from error
    if cls is None:
        raise MaterializerNotFound(
            f"The class {module}:{qualname} is needed to load this artifact, and {module!r} no longer defines it."
        )
    return cls


def _class_attribute(module: Any, qualname: str) -> type | None:
    found = module
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found if isinstance(found, type) and found.__qualname__ == qualname else None
