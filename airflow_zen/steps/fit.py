"""Hold a value against its declared type, widening only where nothing is lost."""

from __future__ import annotations

import typing
from typing import Annotated, Any, Final, Literal, NotRequired, Required, TypeVar, Union, get_args, get_origin

from airflow_zen.errors import Misfit
from airflow_zen.materializers.declared import is_union
from airflow_zen.materializers.names import type_name
from airflow_zen.steps.annotations import as_class
from airflow_zen.steps.elements import fit_elements, fit_fields
from airflow_zen.steps.place import Place, class_name
from airflow_zen.steps.protocols import follows, is_protocol

_NUMBERS = (bool, int, float, complex)
_WRAPPERS = (Annotated, Required, NotRequired, Final)


def fit(value: Any, declared: Any, place: Place) -> Any:
    """Give `value` as the declared type; raises `OutputError` or `InputError` when it is another one, as `place` has it.

    An int becomes a declared float, a numpy scalar the declared Python value; so do the elements of lists,
    sets, tuples and dicts. A protocol is held to the names of its members, a `TypedDict` to its keys and their types,
    a type variable to its bound. What exists for type checkers only is not checked.
    """
    declared = _unwrapped(declared)
    if declared is None or declared is typing.Any or declared is object:
        return value
    if is_union(declared):
        return _fit_one_of(value, get_args(declared), declared, place)
    if get_origin(declared) is Literal:
        return _fit_literal(value, declared, place)
    if typing.is_typeddict(declared):
        return fit_fields(_of(value, dict, declared, place), declared, place, fit)
    return _fit_class(value, as_class(declared), declared, place)


def _fit_class(value: Any, expected: type | None, declared: Any, place: Place) -> Any:
    if expected is None or _is(value, expected):
        return fit_elements(_narrow(value, expected), declared, place, fit)
    widened = _widened(value, expected)
    return widened if widened is not None else _of(value, expected, declared, place)


def _of(value: Any, expected: type, declared: Any, place: Place) -> Any:
    """Give a value of an expected class; raises a `Misfit` for any other."""
    if _is(value, expected):
        return value
    raise place.misfit(class_name(declared), f"{type(value).__module__}.{type(value).__qualname__}")


def _unwrapped(declared: Any) -> Any:
    """Give the type behind `Annotated`, `NewType`, an alias, or a type variable, which may have bounds."""
    if get_origin(declared) in _WRAPPERS:
        return _unwrapped(get_args(declared)[0])
    if isinstance(declared, TypeVar):
        choices = declared.__constraints__
        return _unwrapped(Union[choices] if choices else declared.__bound__)  # noqa: UP007 - of as many as there are
    for behind in ("__supertype__", "__value__"):
        if type(declared).__module__ == "typing" and hasattr(declared, behind):
            return _unwrapped(getattr(declared, behind))
    return declared


def _fit_one_of(value: Any, choices: tuple[Any, ...], declared: Any, place: Place) -> Any:
    """Take the first choice that the value is, with all its elements, else the narrowest number it can be widened to."""
    choices = tuple(map(_unwrapped, choices))
    refused: Misfit | None = None
    for choice in choices:
        if not _may_be(value, choice):
            continue
        try:
            return fit(value, choice, place)
        except Misfit as error:
            refused = refused or error
    classes = set(map(as_class, choices))
    for expected in (kind for kind in _NUMBERS if kind in classes):
        if (widened := _widened(value, expected)) is not None:
            return widened
    raise refused or place.misfit(declared, type(value).__qualname__)


def _may_be(value: Any, choice: Any) -> bool:
    if get_origin(choice) is Literal:
        return _is_one_of(value, choice)
    expected = dict if typing.is_typeddict(choice) else as_class(choice)
    return expected is None or _is(value, expected)


def _fit_literal(value: Any, declared: Any, place: Place) -> Any:
    if not _is_one_of(value, declared):
        raise place.misfit(declared, repr(value))
    return value


def _is_one_of(value: Any, literal: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in get_args(literal))


def _is(value: Any, expected: type) -> bool:
    try:
        # A DAG file that was imported twice has two classes of one name.
        return isinstance(value, expected) or type_name(expected) in map(type_name, type(value).__mro__)
    except TypeError:
        return not is_protocol(expected) or follows(value, expected)


def _narrow(value: Any, expected: type | None) -> Any:
    """Give a numpy scalar that happens to be a Python value too (np.float64, np.str_) as the declared one."""
    if expected in (float, complex, str, bytes) and type(value).__module__ == "numpy":
        return expected(value)
    return value


def _widened(value: Any, expected: type | None) -> Any:
    """Give a number as the declared kind of number; None where that would lose something."""
    if expected not in _NUMBERS or (isinstance(value, bool) and expected is not bool):
        return None
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
        if type(value) is expected:
            return value
    if expected in (float, complex) and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            widened = expected(value)
        except OverflowError:
            return None
        return widened if widened == value else None
    return None
