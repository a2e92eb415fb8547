"""Evaluate a function's annotations one by one, and only when they are asked for."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from airflow_zen.errors import ZenError
from airflow_zen.labels import class_label
from airflow_zen.materializers.artifact import Artifact
from airflow_zen.materializers.views import columns_of


def evaluate(annotation: Any, function: Callable[..., Any], *, imports: bool | str = False) -> Any:
    """Turn an annotation into a type; None when it names what does not exist at run time.

    With `imports`, a name that the file imports for type checkers only is imported now; never so while
    a DAG is parsed, but from the one package that is named. Raises the `ZenError` of a mark that cannot be.
    """
    if annotation is inspect.Parameter.empty:
        return None
    if not isinstance(annotation, str):
        return annotation
    function = inspect.unwrap(function)
    names = {**getattr(function, "__globals__", {}), **_closure(function)}
    try:
        return _evaluated(annotation, names, function if imports else None, imports if isinstance(imports, str) else "")
    except ZenError:
        raise
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only can fail in any way
        return None


def _evaluated(annotation: str, names: dict[str, Any], function: Callable[..., Any] | None, package: str) -> Any:
    try:
        return eval(annotation, names)  # noqa: S307 - what typing.get_type_hints does, one name at a time
    except NameError as error:
        found = _for_type_checkers(str(error.name), function, package) if function else None
        if found is None:
            raise
        return _evaluated(annotation, {**names, str(error.name): found}, function, package)


def _for_type_checkers(name: str, function: Callable[..., Any], package: str) -> Any:
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
                return _imported(node, alias) if _is_from(node, alias, package) else None
    return None


def _is_from(node: ast.Import | ast.ImportFrom, alias: ast.alias, package: str) -> bool:
    module = alias.name if isinstance(node, ast.Import) else node.module or ""
    return not package or f"{module}.".startswith(f"{package}.")


def _imported(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> Any:
    if isinstance(node, ast.Import):
        module = importlib.import_module(alias.name)
        return module if alias.asname else sys.modules[alias.name.split(".")[0]]
    if node.level or not node.module:
        return None
    return getattr(importlib.import_module(node.module), alias.name)


def parameter_types(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Give the declared type of each parameter, without `Annotated` and `Optional` around it."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: bare(evaluate(parameter.annotation, function, imports=True)) for parameter in parameters}


def parameter_artifacts(function: Callable[..., Any]) -> list[Artifact]:
    """Give what the annotations of parameters say of who reads them."""
    parameters = inspect.signature(function).parameters.values()
    found = [artifact_of(evaluate(parameter.annotation, function, imports=True)) for parameter in parameters]
    return [artifact for artifact in found if artifact]


def artifact_of(declared: Any) -> Artifact | None:
    """Give the `Artifact(…)` of `Annotated[T, Artifact(…)]`, also inside `list[…]` and `… | None`."""
    for extra in getattr(declared, "__metadata__", ()):
        if isinstance(extra, Artifact):
            return extra
    inner = [artifact_of(held) for held in get_args(declared) if get_args(held)]
    return next(filter(None, inner), None)


def bare(declared: Any) -> Any:
    """Strip `Annotated[T, …]` and `T | None` down to `T`; `Columns` stay."""
    if columns_of(declared):
        return declared
    if get_origin(declared) is Annotated:
        return bare(get_args(declared)[0])
    if get_origin(declared) in (Union, types.UnionType):
        rest = [choice for choice in get_args(declared) if choice is not type(None)]
        return bare(rest[0]) if len(rest) == 1 else declared
    return declared


def element_type(declared: Any, at: int = 0) -> Any:
    """Give `T` of `list[T]`, `tuple[T, ...]`, `dict[K, T]`, and the one at its place of `tuple[A, B]`."""
    arguments = get_args(declared)
    if not arguments:
        return None
    if get_origin(declared) is tuple and Ellipsis not in arguments:
        return bare(arguments[at]) if at < len(arguments) else None
    return bare([argument for argument in arguments if argument is not Ellipsis][-1])


def type_text(declared: Any) -> str:
    """Write a declared type as text that is the same in every process and on every machine."""
    if declared is None:
        return "any"
    if get_origin(declared) is Annotated:
        return type_text(get_args(declared)[0])
    if isinstance(declared, type) and get_origin(declared) is None:
        return class_label(declared)
    inner = ", ".join(
        sorted(type_text(argument) for argument in get_args(declared))
        if _is_union(declared)
        else [type_text(argument) for argument in get_args(declared)]
    )
    origin = "union" if _is_union(declared) else getattr(get_origin(declared), "__qualname__", None)
    return f"{origin}[{inner}]" if origin else str(declared)


def _is_union(declared: Any) -> bool:
    return get_origin(declared) in (Union, types.UnionType)


def as_class(declared: Any) -> type | None:
    """Give the class behind a declared type (`list` for `list[int]`); None where there is not exactly one."""
    origin = get_origin(declared) or declared
    return origin if isinstance(origin, type) and origin is not typing.Any else None


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = getattr(function, "__closure__", None) or ()
    found = {}
    for name, cell in zip(names, cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found
