"""The functions and classes that a module may hold as attributes: those that only compute, by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib import import_module
from types import BuiltinFunctionType, ModuleType
from typing import Any

import torch

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.project_code import is_project_module
from airflow_zen.type_names import module_name

# Functions of torch itself that only compute with tensors; torch.load is not such a function.
_ACTIVATIONS = frozenset({"relu", "sigmoid", "softmax", "tanh", "selu", "celu", "erf", "sin", "cos", "exp"})
# Files of libraries whose functions and classes compute with tensors and configurations, and read no files.
_LIBRARY_FILES = re.compile(
    r"torch\.nn\.modules\.\w+|torch\.optim\.\w+|transformers\.(models\.(\w+\.)+modeling_\w+|modeling_rope_utils|activations)"
    r"|torchmetrics\.utilities\.(data|distributed)"
)
_LIBRARY_NAMES = frozenset({"torchmetrics.metric:jit_distributed_available"})


def callable_name(found: Any, owners: Iterable[type]) -> str:
    """Return the name of a function or class; raise `SaveRefused` for one that `find_callable` would not find.

    `owners` are the classes of the modules around it.
    """
    name = f"{module_name(found)}:{found.__qualname__}" if getattr(found, "__module__", None) else ""
    for candidate in (f"torch.nn.functional.{found.__name__}", f"torch.{found.__name__}", name):
        if find_callable(candidate, owners) is found:
            return candidate
    raise SaveRefused(
        f"The {'class' if isinstance(found, type) else 'function'} {name.replace(':', '.') or found.__qualname__} in a "
        "module is not stored: loading it by name could run anything. Define it at the top level of the file that defines "
        "the module, make it a method, or use one of torch.nn.functional. Or return module.state_dict()."
    )


def find_callable(name: str, owners: Iterable[type]) -> Any:
    """Return a function or class that computes with tensors; None where there is none of that name.

    That is one of torch.nn, or one that a library's modeling file or a file of the project defines: the one that defines
    a class of `owners`, or a base of one.
    """
    module, _, qualname = name.partition(":")
    if not qualname:
        return _torch_function(name)
    files = [sys.modules[held] for held, known in _project_files(owners).items() if known == module]
    if not files and (_LIBRARY_FILES.fullmatch(module) or name in _LIBRARY_NAMES):
        files = [import_module(module)]
    found = (_member(file, qualname) for file in files)
    return next((it for it in found if it is not None), None)


def is_project_class(cls: type, owners: Iterable[type]) -> bool:
    """Whether a file of the project defines both a class and one of `owners`, or a base of one."""
    return cls.__module__ in _project_files(owners)


def require_callable(name: str, owners: Iterable[type]) -> Any:
    """Return what `find_callable` finds; raise `ArtifactRefused` where it finds nothing."""
    if (found := find_callable(name, owners)) is None:
        raise ArtifactRefused(
            f"torch.module@1 keeps functions and classes of torch.nn, of modeling files, and of the file that defines the "
            f"module, and {name!r} is none of them."
        )
    return found


def _project_files(owners: Iterable[type]) -> dict[str, str]:
    """Return the modules of the project that define classes and their bases, as loaded, with the names for an import."""
    bases = {base.__module__: module_name(base) for cls in owners for base in cls.__mro__}
    return {held: name for held, name in bases.items() if held in sys.modules and is_project_module(held)}


def _member(file: ModuleType, qualname: str) -> Any:
    """Return a function or class that a file defines, not one that it imports."""
    found: Any = file
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    is_own = callable(found) and getattr(found, "__module__", None) == file.__name__
    return found if is_own and getattr(found, "__qualname__", None) == qualname else None


def _torch_function(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if module == "torch":
        return getattr(torch, attribute) if attribute in _ACTIVATIONS else None
    found = getattr(torch.nn.functional, attribute, None) if module == "torch.nn.functional" else None
    is_own = getattr(found, "__module__", None) in ("torch.nn.functional", "torch._jit_internal")
    return found if is_own or isinstance(found, BuiltinFunctionType) else None
