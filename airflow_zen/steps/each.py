"""A list of which every element is an artifact, for `.expand`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

from airflow_zen.errors import OutputError, StepDefinitionError
from airflow_zen.materializers.declared import element_type


class Each:
    """Mark a returned list: `-> Annotated[list[T], Each]` makes an artifact of each element, to expand a step over."""


def is_each(declared: Any) -> bool:
    """Tell whether a return annotation is marked by `Each`."""
    if get_origin(declared) is not Annotated:
        return False
    return any(mark is Each or isinstance(mark, Each) for mark in get_args(declared)[1:])


def check_marked_list(declared: Any) -> None:
    """Refuse a mark around what is no list, where that can be told; raises `StepDefinitionError`."""
    kind = get_origin(get_args(declared)[0]) or get_args(declared)[0]
    if isinstance(kind, type) and not (issubclass(list, kind) or issubclass(kind, list | tuple)):
        raise StepDefinitionError(
            f"Each marks a list, of which every element is an artifact, got {kind.__qualname__}. Declare "
            "Annotated[list[T], Each], and return a list."
        )


def split_elements(name: str, value: Any, declared: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the elements of a returned list by name, and their declared types; raises `OutputError` for no list."""
    if not isinstance(value, list | tuple):
        raise OutputError(
            f"output {name!r} is marked Each, but the function returned {type(value).__qualname__}. Return a list."
        )
    values = {f"{name}[{at}]": element for at, element in enumerate(value)}
    return values, {held: element_type(declared, at) for at, held in enumerate(values)}


def declared_output_type(name: str, types: Mapping[str, Any]) -> Any:
    """Give the declared type of an output, or of an element of it (`output[3]`)."""
    whole, bracket, at = name.partition("[")
    if name in types or not bracket:
        return types.get(name)
    return element_type(types.get(whole), int(at.rstrip("]")))
