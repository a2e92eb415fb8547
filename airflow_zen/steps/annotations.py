"""Evaluate the annotations of a function one by one, and only when they are needed."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin, get_type_hints

from airflow_zen.errors import ZenError
from airflow_zen.materializers.annotations import Artifact, strip_annotation
from airflow_zen.type_names import walk_types

Owner = Callable[..., Any]
"""The function, or the class, that an annotation is written in."""


def resolve_annotation(annotation: Any, owner: Owner, *, imports: bool | str = False) -> Any:
    """Return an annotation as a type; None when it names what does not exist at run time.

    With `imports`, a name that the file imports for type checkers only is imported now. While a DAG is parsed, `imports`
    is the one package that may be imported. Raises the `ZenError` of an invalid mark.
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


def resolve_type(annotation: Any, owner: Owner) -> Any:
    """Return an annotation as a type, also if it is text twice: quoted, in a file whose annotations are text."""
    found = resolve_annotation(annotation, owner, imports=True)
    return resolve_type(found, owner) if isinstance(found, str) and found != annotation else found


def parameter_types(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the declared type of each parameter, without `Annotated` and `Optional` around it."""
    return {name: strip_annotation(declared) for name, declared in _resolve_parameters(function).items()}


def parameter_artifacts(function: Callable[..., Any]) -> list[Artifact]:
    """Return the `Artifact(…)` of the parameters that have one."""
    found = map(artifact_marker, _resolve_parameters(function).values())
    return [artifact for artifact in found if artifact]


def artifact_marker(declared: Any) -> Artifact | None:
    """Return the `Artifact(…)` of `Annotated[T, Artifact(…)]`, also inside `list[…]` and `… | None`."""
    marks = (mark for found in walk_types(declared) for mark in getattr(found, "__metadata__", ()))
    return next((mark for mark in marks if isinstance(mark, Artifact)), None)


def runtime_class(declared: Any) -> type | None:
    """Return the class behind a declared type (`list` for `list[int]`); None if there is not exactly one.

    `pandera.typing.DataFrame[Schema]` annotates frames that are pandas' own.
    """
    origin = get_origin(declared) or declared
    if not isinstance(origin, type) or origin is Any:
        return None
    if not origin.__module__.startswith("pandera.typing."):
        return origin
    return next(base for base in origin.__mro__ if not base.__module__.startswith("pandera."))


def _resolve_parameters(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: resolve_type(parameter.annotation, function) for parameter in parameters}


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
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue
    return names


def _evaluate_names(annotation: Any, names: dict[str, Any], owner: Owner, imports: bool | str) -> Any:
    try:
        # What typing.get_type_hints does, one name at a time.
        found = eval(annotation, names) if isinstance(annotation, str) else annotation  # noqa: S307
        if not _has_forward_reference(found):
            return found
        holder = type("Holder", (), {"__annotations__": {"held": found}})
        return get_type_hints(holder, names, include_extras=True)["held"]
    except NameError as error:
        name = str(error.name)
        found = _import_type_checking_name(name, owner, imports) if imports else None
        if found is None:
            raise
        return _evaluate_names(annotation, {**names, name: found}, owner, imports)


def _import_type_checking_name(name: str, owner: Owner, imports: bool | str) -> Any:
    """Import what a name stands for under `if TYPE_CHECKING:` of the owner's file; return None if it is not there."""
    try:
        tree = ast.parse(Path(inspect.getsourcefile(owner) or "").read_text("utf-8"))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    aliases = ((node, alias) for node in nodes for alias in node.names)
    for node, alias in aliases:
        if (alias.asname or alias.name.split(".")[0]) == name:
            module = alias.name if isinstance(node, ast.Import) else node.module or ""
            is_allowed = imports is True or f"{module}.".startswith(f"{imports}.")
            return _import_alias(node, alias) if is_allowed else None
    return None


def _import_alias(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> Any:
    if isinstance(node, ast.Import):
        module = importlib.import_module(alias.name)
        return module if alias.asname else sys.modules[alias.name.split(".")[0]]
    if node.level or not node.module:
        return None
    return getattr(importlib.import_module(node.module), alias.name)
