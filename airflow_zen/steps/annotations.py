"""Evaluate a function's annotations one by one, and only when they are asked for."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin


def evaluate(annotation: Any, function: Callable[..., Any]) -> Any:
    """Turn an annotation into a type; None when it names what does not exist at run time."""
    if annotation is inspect.Parameter.empty:
        return None
    if isinstance(annotation, str):
        function = inspect.unwrap(function)
        names = {**getattr(function, "__globals__", {}), **_closure(function)}
        try:
            return eval(annotation, names)  # noqa: S307 - what typing.get_type_hints does, one name at a time
        except Exception:  # noqa: BLE001 - a name that exists for type checkers only can fail in any way
            return None
    return annotation


def parameter_types(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Give the declared type of each parameter, without `Annotated` and `Optional` around it."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: bare(evaluate(parameter.annotation, function)) for parameter in parameters}


def bare(declared: Any) -> Any:
    """Strip `Annotated[T, …]` and `T | None` down to `T`."""
    if get_origin(declared) is Annotated:
        return bare(get_args(declared)[0])
    if get_origin(declared) in (Union, types.UnionType):
        rest = [choice for choice in get_args(declared) if choice is not type(None)]
        return bare(rest[0]) if len(rest) == 1 else declared
    return declared


def element_type(declared: Any) -> Any:
    """Give `T` of `list[T]`, `tuple[T, ...]`, `dict[K, T]`; None when it is not said."""
    arguments = [argument for argument in get_args(declared) if argument is not Ellipsis]
    return bare(arguments[-1]) if arguments else None


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
