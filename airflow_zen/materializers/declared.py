"""Take declared types apart."""

from __future__ import annotations

import types
from pathlib import PurePath
from typing import Annotated, Any, Union, get_args, get_origin

from airflow_zen.materializers.views import columns_marker


def strip_annotation(declared: Any) -> Any:
    """Strip `Annotated[T, …]` and `T | None` down to `T`; `Columns` stay."""
    if declared is None:
        return None
    if columns_marker(declared):
        return declared
    if get_origin(declared) is Annotated:
        return strip_annotation(get_args(declared)[0])
    if is_union(declared):
        rest = [choice for choice in get_args(declared) if choice is not type(None)]
        return strip_annotation(rest[0]) if len(rest) == 1 else declared
    return declared


def element_type(declared: Any, at: int = 0) -> Any:
    """Give `T` of `list[T]`, `tuple[T, ...]`, `dict[K, T]`, and the one at its place of `tuple[A, B]`."""
    if declared is None:
        return None
    declared = strip_annotation(declared)
    arguments = get_args(declared)
    if not arguments:
        return None
    if get_origin(declared) is tuple and Ellipsis not in arguments:
        return strip_annotation(arguments[at]) if at < len(arguments) else None
    return strip_annotation([argument for argument in arguments if argument is not Ellipsis][-1])


def is_union(declared: Any) -> bool:
    """Tell whether a declared type is `X | Y`, however that is written."""
    return get_origin(declared) in (Union, types.UnionType)


def contains_path(declared: Any) -> bool:
    """Tell whether a declared type is a path, or has one in it: `dict[str, Path]`."""
    if isinstance(declared, type) and issubclass(get_origin(declared) or declared, PurePath):
        return True
    return any(map(contains_path, get_args(declared)))
