"""Names of modules and classes that are alike on every machine."""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

from airflow_zen.errors import ArtifactRefused, MaterializerNotFound, SaveRefused

# Airflow names the module of a DAG file by a hash of its path.
_DAG_MODULE = re.compile(r"^unusual_prefix_[0-9a-f]{40}_")


def stable_module_name(module_name: str, file: str | None = None) -> str:
    """Name a module alike on every machine: Airflow's name of a DAG file, or `__main__`, becomes the file's stem."""
    if module_name in ("__main__", "__mp_main__") and file:
        return re.sub(r"[.-]", "_", PurePath(file).stem)
    return _DAG_MODULE.sub("", module_name)


def stable_class_name(cls: type) -> str:
    """Name a class by module and qualified name, alike on every machine."""
    return f"{stable_module_name(cls.__module__, _main_file(cls.__module__))}.{cls.__qualname__}"


def _main_file(module_name: str) -> str | None:
    return getattr(sys.modules.get(module_name), "__file__", None) if module_name.endswith("main__") else None


_DAG_FILE_MODULE = re.compile(r"unusual_prefix_[0-9a-f]{40}_(?P<stem>.+)")
# Only libraries whose public modules hold their names once imported: a lazy one would be named by what ran before.
_PUBLIC_LIBRARIES = frozenset(
    {
        "PIL",
        "catboost",
        "geopandas",
        "keras",
        "lightgbm",
        "numpy",
        "onnx",
        "pandas",
        "polars",
        "pyarrow",
        "scipy",
        "sklearn",
        "torch",
        "xarray",
        "xgboost",
    }
)


def type_name(cls: type) -> str:
    """Give the dotted name of a type as its library publishes it, such as `pandas.DataFrame`.

    Libraries move their private modules between releases (`pandas.core.frame.DataFrame` became
    `pandas.DataFrame` in pandas 3); the shortest public path to the same class stays.
    """
    module = module_name(cls)
    for candidate in _public_module_names(module):
        if vars(sys.modules[candidate]).get(cls.__qualname__) is cls:
            return f"{candidate}.{cls.__qualname__}"
    return f"{module}.{cls.__qualname__}"


def module_name(cls: type) -> str:
    """Give the module of a class, without what depends on the machine.

    Airflow loads a DAG file as `unusual_prefix_<hash of its path>_<stem>`, and a script is
    `__main__`: both are named by what an import would call them.
    """
    match = _DAG_FILE_MODULE.fullmatch(cls.__module__)
    if match:
        return match["stem"]
    return _main_module_name() if cls.__module__ == "__main__" else cls.__module__


def loaded_modules_named(name: str) -> Iterator[str]:
    """Yield the loaded modules that `module_name` gives this name, the exact one first."""
    if name in sys.modules:
        yield name
    for loaded in sorted(sys.modules):
        match = _DAG_FILE_MODULE.fullmatch(loaded)
        if match and match["stem"] == name:
            yield loaded
    if _main_module_name() == name:
        yield "__main__"


def _main_module_name() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return re.sub(r"[.-]", "_", Path(file).stem) if file else "__main__"


def _public_module_names(module: str) -> Iterator[str]:
    parts = module.split(".")
    if parts[0] not in _PUBLIC_LIBRARIES:
        return
    for length in range(1, len(parts)):
        candidate = ".".join(parts[:length])
        if candidate in sys.modules:
            yield candidate


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
