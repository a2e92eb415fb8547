"""Hold a returned value against its declared type, widening only where nothing is lost."""

from __future__ import annotations

import types
import typing
from typing import Any, Union, get_args, get_origin

from airflow_zen.errors import OutputError
from airflow_zen.steps.annotations import as_class, bare

_NUMBERS = (int, float, complex, bool)


def fit(value: Any, declared: Any, name: str) -> Any:
    """Give `value` as the declared type; raises `OutputError` when it is another one.

    An int becomes a declared float, a numpy scalar the declared Python number. Types that cannot be
    checked by `isinstance` (protocols, type variables, what exists for type checkers only) are not.
    """
    if declared is None or declared is typing.Any or declared is object:
        return value
    if get_origin(declared) in (Union, types.UnionType):
        return _fit_one_of(value, get_args(declared), declared, name)
    expected = as_class(declared)
    if expected is None or _is(value, expected):
        return _narrow(value, expected)
    if expected in _NUMBERS and (widened := _widen(value, expected)) is not None:
        return widened
    raise OutputError(
        f"output {name!r} is declared {getattr(declared, '__qualname__', declared)}, but the function returned "
        f"{type(value).__module__}.{type(value).__qualname__}."
    )


def _fit_one_of(value: Any, choices: tuple[Any, ...], declared: Any, name: str) -> Any:
    expected = [as_class(bare(choice)) for choice in choices]
    if any(choice is None or _is(value, choice) for choice in expected):
        return value
    for choice in expected:
        if choice in _NUMBERS and (widened := _widen(value, choice)) is not None:
            return widened
    raise OutputError(f"output {name!r} is declared {declared}, but the function returned {type(value).__qualname__}.")


def _is(value: Any, expected: type) -> bool:
    try:
        return isinstance(value, expected)
    except TypeError:
        return True


def _narrow(value: Any, expected: type | None) -> Any:
    """Give a numpy scalar that happens to be a Python float (np.float64) as the declared float."""
    if expected in (float, complex) and type(value).__module__ == "numpy":
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
        widened = expected(value)
        return widened if widened == value else None
    return None
