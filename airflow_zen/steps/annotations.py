"""Evaluate a function's annotations one by one, and only when they are asked for."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin, get_type_hints

from airflow_zen.errors import ZenError
from airflow_zen.materializers.annotations import Artifact, is_union, strip_annotation
from airflow_zen.type_names import stable_class_name


def resolve_annotation(annotation: Any, function: Callable[..., Any], *, imports: bool | str = False) -> Any:
    """Turn an annotation into a type; None when it names what does not exist at run time.

    With `imports`, a name that the file imports for type checkers only is imported now; never so while
    a DAG is parsed, but from the one package that is named. Raises the `ZenError` of a mark that cannot be.
    """
    if annotation is inspect.Parameter.empty:
        return None
    if not isinstance(annotation, str) and not _has_forward_reference(annotation):
        return annotation
    function = inspect.unwrap(function)
    names = {**getattr(function, "__globals__", {}), **_closure_variables(function)}
    try:
        return _evaluate_names(
            annotation, names, function if imports else None, imports if isinstance(imports, str) else ""
        )
    except ZenError:
        raise
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only can fail in any way
        return None if isinstance(annotation, str) else annotation


def resolve_type(annotation: Any, function: Callable[..., Any]) -> Any:
    """Evaluate an annotation that is a type, which may be text twice over: quoted, in a file whose annotations are text."""
    found = resolve_annotation(annotation, function, imports=True)
    return resolve_type(found, function) if isinstance(found, str) and found != annotation else found


def _has_forward_reference(declared: Any) -> bool:
    """Tell whether types inside a declared one are written as text: `list["Model"]`."""
    if get_origin(declared) is Literal:
        return False
    inner = get_args(declared)[:1] if get_origin(declared) is Annotated else get_args(declared)
    return any(isinstance(held, str | ForwardRef) or _has_forward_reference(held) for held in inner)


def _evaluate_names(annotation: Any, names: dict[str, Any], function: Callable[..., Any] | None, package: str) -> Any:
    try:
        # What typing.get_type_hints does, one name at a time.
        found = eval(annotation, names) if isinstance(annotation, str) else annotation  # noqa: S307
        if not _has_forward_reference(found):
            return found
        holder = type("Holder", (), {"__annotations__": {"held": found}})
        return get_type_hints(holder, names, include_extras=True)["held"]
    except NameError as error:
        found = _import_type_checking_name(str(error.name), function, package) if function else None
        if found is None:
            raise
        return _evaluate_names(annotation, {**names, str(error.name): found}, function, package)


def _import_type_checking_name(name: str, function: Callable[..., Any], package: str) -> Any:
    """Import what a name stands for under `if TYPE_CHECKING:` of the function's file; None where it is not there.

    Where a package is given, nothing else is imported.
    """
    try:
        tree = ast.parse(Path(inspect.getsourcefile(function) or "").read_text("utf-8"))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.split(".")[0]) == name:
                return _import_alias(node, alias) if _is_in_package(node, alias, package) else None
    return None


def _is_in_package(node: ast.Import | ast.ImportFrom, alias: ast.alias, package: str) -> bool:
    module = alias.name if isinstance(node, ast.Import) else node.module or ""
    return not package or f"{module}.".startswith(f"{package}.")


def _import_alias(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> Any:
    if isinstance(node, ast.Import):
        module = importlib.import_module(alias.name)
        return module if alias.asname else sys.modules[alias.name.split(".")[0]]
    if node.level or not node.module:
        return None
    return getattr(importlib.import_module(node.module), alias.name)


def parameter_types(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Give the declared type of each parameter, without `Annotated` and `Optional` around it."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: strip_annotation(resolve_type(parameter.annotation, function)) for parameter in parameters}


def parameter_artifacts(function: Callable[..., Any]) -> list[Artifact]:
    """Give what the annotations of parameters say of who reads them."""
    parameters = inspect.signature(function).parameters.values()
    found = [artifact_marker(resolve_type(parameter.annotation, function)) for parameter in parameters]
    return [artifact for artifact in found if artifact]


def artifact_marker(declared: Any) -> Artifact | None:
    """Give the `Artifact(…)` of `Annotated[T, Artifact(…)]`, also inside `list[…]` and `… | None`."""
    for extra in getattr(declared, "__metadata__", ()):
        if isinstance(extra, Artifact):
            return extra
    inner = [artifact_marker(held) for held in get_args(declared) if get_args(held)]
    return next(filter(None, inner), None)


def canonical_type_text(declared: Any) -> str:
    """Write a declared type as text that is the same in every process and on every machine."""
    if declared is None:
        return "any"
    if get_origin(declared) is Annotated:
        return canonical_type_text(get_args(declared)[0])
    if isinstance(declared, type) and get_origin(declared) is None:
        return stable_class_name(declared)
    inner = ", ".join(
        sorted(canonical_type_text(argument) for argument in get_args(declared))
        if is_union(declared)
        else [canonical_type_text(argument) for argument in get_args(declared)]
    )
    origin = "union" if is_union(declared) else getattr(get_origin(declared), "__qualname__", None)
    return f"{origin}[{inner}]" if origin else str(declared)


def runtime_class(declared: Any) -> type | None:
    """Give the class behind a declared type (`list` for `list[int]`); None where there is not exactly one."""
    origin = get_origin(declared) or declared
    return _unwrap_pandera_class(origin) if isinstance(origin, type) and origin is not typing.Any else None


def _unwrap_pandera_class(cls: type) -> type:
    """Give the library's class for one of pandera's: `pandera.typing.DataFrame[Schema]` annotates frames of pandas itself."""
    if not cls.__module__.startswith("pandera.typing."):
        return cls
    return next(base for base in cls.__mro__ if not base.__module__.startswith("pandera."))


def _closure_variables(function: Callable[..., Any]) -> dict[str, Any]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = getattr(function, "__closure__", None) or ()
    found = {}
    for name, cell in zip(names, cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found
