"""Name types the same way on every machine, and in every release of the libraries they come from."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

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
