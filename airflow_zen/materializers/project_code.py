"""Detection of the project's own classes and functions, which stored values name and cache keys include."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from airflow_zen.type_names import definition_name

FRAMEWORK = frozenset({"airflow", "airflow_zen", "mlflow"})

_SITE_PACKAGES = re.compile(r"[/\\](site|dist)-packages([/\\]|$)")
_STDLIB_FOLDERS = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))


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
