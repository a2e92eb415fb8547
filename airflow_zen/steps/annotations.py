"""Annotations as types: written as text or not, with what they name imported or not."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, Literal, get_args, get_origin, get_type_hints

from airflow_zen.errors import ZenError
from airflow_zen.type_names import StandIn

if TYPE_CHECKING:
    from airflow_zen.caching.code.summary import Import

Owner = Callable[..., Any]
"""The function, or the class, that an annotation is written in."""


class Imports(Enum):
    """Which names that a file imports for type checkers only are imported to evaluate an annotation."""

    NONE = "none"
    OURS = "ours"
    """Those of this package, which mark outputs."""
    LIGHT = "light"
    """Those of this package, of Python and of the project; all others become stand-ins."""
    ALL = "all"


def resolve_annotation(annotation: Any, owner: Owner, imports: Imports = Imports.NONE) -> Any:
    """Return an annotation as a type; None if it names something that does not exist at run time.

    `imports` selects the names that are imported although the file imports them for type checkers only. Raises the
    `ZenError` of an invalid mark.
    """
    if annotation is inspect.Parameter.empty:
        return None
    module = getattr(annotation, "__forward_module__", None)
    annotation = getattr(annotation, "__forward_arg__", annotation)
    if not isinstance(annotation, str) and not _has_forward_reference(annotation):
        return annotation
    owner = inspect.unwrap(owner)
    try:
        # A field that a TypedDict inherits has the names of another module.
        names = dict(vars(sys.modules[module])) if module else _names_of(owner)
        return _evaluate_names(annotation, names, owner, imports)
    except ZenError:
        raise
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only can fail in any way
        return None if isinstance(annotation, str) else annotation


def resolve_type(annotation: Any, owner: Owner, imports: Imports = Imports.ALL) -> Any:
    """Return an annotation as a type, also if it is a quoted text in a file whose annotations are texts."""
    if imports is Imports.LIGHT:
        # What a stand-in cannot be part of, such as Artifact(materializer=Mine), needs the class itself.
        with suppress(ZenError):
            if (found := _resolve_text(annotation, owner, imports)) is not None:
                return found
    return _resolve_text(annotation, owner, Imports.ALL)


def _resolve_text(annotation: Any, owner: Owner, imports: Imports) -> Any:
    found = resolve_annotation(annotation, owner, imports)
    return _resolve_text(found, owner, imports) if isinstance(found, str) and found != annotation else found


def resolve_parameters(function: Callable[..., Any], imports: Imports = Imports.ALL) -> dict[str, Any]:
    """Return the declared type of each parameter, with its marks."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: resolve_type(parameter.annotation, function, imports) for parameter in parameters}


def returned_type(declared: Any) -> Any:
    """Return `T` of `Generator[Metadata, None, T]`, which yields extras of asset events before it returns its result."""
    arguments = get_args(declared) if get_origin(declared) is Generator else ()
    return arguments[2] if len(arguments) == 3 and arguments[2] not in (None, type(None)) else declared


def _has_forward_reference(declared: Any) -> bool:
    """Whether types inside a declared one are written as text: `list["Model"]`."""
    if get_origin(declared) is Literal:
        return False
    inner = get_args(declared)[:1] if get_origin(declared) is Annotated else get_args(declared)
    return any(isinstance(held, str | ForwardRef) or _has_forward_reference(held) for held in inner)


def _names_of(owner: Any) -> dict[str, Any]:
    """Return the names that annotations of a function or a class can use."""
    if isinstance(owner, type):
        return dict(vars(sys.modules[owner.__module__]))
    names = dict(getattr(owner, "__globals__", {}))
    free = getattr(getattr(owner, "__code__", None), "co_freevars", ())
    for name, cell in zip(free, getattr(owner, "__closure__", None) or (), strict=False):
        with suppress(ValueError):
            names[name] = cell.cell_contents
    return names


def _evaluate_names(annotation: Any, names: dict[str, Any], owner: Owner, imports: Imports) -> Any:
    try:
        # What typing.get_type_hints does, one name at a time.
        found = eval(annotation, names) if isinstance(annotation, str) else annotation  # noqa: S307
        if not _has_forward_reference(found):
            return found
        holder = type("Holder", (), {"__annotations__": {"held": found}})
        return get_type_hints(holder, names, include_extras=True)["held"]
    except NameError as error:
        name = str(error.name)
        found = None if imports is Imports.NONE else _import_type_checking_name(name, owner, imports)
        if found is None:
            raise
        return _evaluate_names(annotation, {**names, name: found}, owner, imports)


def _import_type_checking_name(name: str, owner: Owner, imports: Imports) -> Any:
    """Return the object behind a name under `if TYPE_CHECKING:` of the owner's file; None if it is not there.

    It is imported, or replaced by a stand-in if `imports` excludes it.
    """
    from airflow_zen.caching.code.source import source_file

    try:
        source = source_file(inspect.getsourcefile(owner) or "", {})
    except (OSError, TypeError, ValueError):
        return None
    for imported in source.summary.imports.get(name, ()) if source else ():
        return None if imported.level else _import_name(imported, imports)
    return None


def _import_name(imported: Import, imports: Imports) -> Any:
    """Return the object that an import binds, or its stand-in."""
    module, attribute = imported.module, imported.attribute
    if _may_import(module, imports):
        importlib.import_module(imported.loads or module)
        if attribute and not hasattr(sys.modules[module], attribute):
            importlib.import_module(f"{module}.{attribute}")
        return getattr(sys.modules[module], attribute) if attribute else sys.modules[module]
    if imports is not Imports.LIGHT:
        return None
    return StandIn(f"{module}.{attribute}" if attribute else module)


def _may_import(module: str, imports: Imports) -> bool:
    is_ours = module.partition(".")[0] == "airflow_zen"
    if imports is not Imports.LIGHT:
        return is_ours or imports is Imports.ALL
    from airflow_zen.caching.code.distributions import origin_of_module

    return is_ours or origin_of_module(module) != "third-party"
