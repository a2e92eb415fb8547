"""Names of modules and classes that are alike on every machine."""

from __future__ import annotations

import re
import sys
from pathlib import PurePath

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
