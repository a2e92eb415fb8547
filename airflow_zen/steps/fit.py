"""Hold a returned value against its declared type, widening only where nothing is lost."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from airflow_zen.errors import OutputError
from airflow_zen.steps.annotations import as_class, bare
from airflow_zen.steps.elements import fit_elements

_NUMBERS = (int, float, complex, bool)


def fit(value: Any, declared: Any, name: str) -> Any:
    """Give `value` as the declared type; raises `OutputError` when it is another one.

    An int becomes a declared float, a numpy scalar the declared Python value; so do the elements of lists,
    sets, tuples and dicts. Types that cannot be checked by `isinstance` (protocols, type variables, what
    exists for type checkers only) are not.
    """
    if declared is None or declared is typing.Any or declared is object:
        return value
    if get_origin(declared) in (Union, types.UnionType):
        return _fit_one_of(value, get_args(declared), declared, name)
    if get_origin(declared) is Literal:
        return _fit_literal(value, declared, name)
    expected = as_class(declared)
    if expected is None or _is(value, expected):
        return fit_elements(_narrow(value, expected), declared, name, fit)
    if expected in _NUMBERS and (widened := _widen(value, expected)) is not None:
        return widened
    raise OutputError(
        f"output '{name}' is declared {getattr(declared, '__qualname__', declared)}, but the function returned "
        f"{type(value).__module__}.{type(value).__qualname__}."
    )


def _fit_one_of(value: Any, choices: tuple[Any, ...], declared: Any, name: str) -> Any:
    """Take the first choice that the value is, else the first number it can be widened to."""
    for choice in map(bare, choices):
        expected = as_class(choice)
        if get_origin(choice) is not Literal and (expected is None or _is(value, expected)):
            return fit(value, choice, name)
        if get_origin(choice) is Literal and _is_one_of(value, choice):
            return value
    for expected in map(as_class, map(bare, choices)):
        if expected in _NUMBERS and (widened := _widen(value, expected)) is not None:
            return widened
    raise OutputError(f"output '{name}' is declared {declared}, but the function returned {type(value).__qualname__}.")


def _fit_literal(value: Any, declared: Any, name: str) -> Any:
    if not _is_one_of(value, declared):
        raise OutputError(f"output '{name}' is declared {declared}, but the function returned {value!r}.")
    return value


def _is_one_of(value: Any, literal: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in get_args(literal))


def _is(value: Any, expected: type) -> bool:
    try:
        return isinstance(value, expected)
    except TypeError:
        return True


def _narrow(value: Any, expected: type | None) -> Any:
    """Give a numpy scalar that happens to be a Python value too (np.float64, np.str_) as the declared one."""
    if expected in (float, complex, str, bytes) and type(value).__module__ == "numpy":
        return expected(value)
    return value


def _widen(value: Any, expected: type) -> Any:
    if isinstance(value, bool) and expected is not bool:
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
