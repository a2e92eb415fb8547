"""Hold a value against its declared type, widening only where nothing is lost."""

from __future__ import annotations

import typing
from typing import Annotated, Any, Final, Literal, NotRequired, Required, TypeVar, Union, get_args, get_origin

from airflow_zen.errors import TypeMismatch
from airflow_zen.materializers.declared import is_union
from airflow_zen.materializers.names import type_name
from airflow_zen.steps.annotations import runtime_class
from airflow_zen.steps.elements import coerce_elements, coerce_fields
from airflow_zen.steps.place import ValuePath, type_display_name
from airflow_zen.steps.protocols import implements, is_protocol

_NUMBERS = (bool, int, float, complex)
_WRAPPERS = (Annotated, Required, NotRequired, Final)


def coerce(value: Any, declared: Any, path: ValuePath) -> Any:
    """Give `value` as the declared type; raises `OutputError` or `InputError` when it is another one, as `path` has it.

    An int becomes a declared float, a numpy scalar the declared Python value; so do the elements of lists,
    sets, tuples and dicts. A protocol is held to the names of its members, a `TypedDict` to its keys and their types,
    a type variable to its bound. What exists for type checkers only is not checked.
    """
    declared = _unwrap_type(declared)
    if declared is None or declared is typing.Any or declared is object:
        return value
    if is_union(declared):
        return _coerce_to_union(value, get_args(declared), declared, path)
    if get_origin(declared) is Literal:
        return _check_literal(value, declared, path)
    if typing.is_typeddict(declared):
        return coerce_fields(_require_class(value, dict, declared, path), declared, path, coerce)
    return _coerce_to_class(value, runtime_class(declared), declared, path)


def _coerce_to_class(value: Any, expected: type | None, declared: Any, path: ValuePath) -> Any:
    if expected is None or _is_instance(value, expected):
        return coerce_elements(_numpy_to_python(value, expected), declared, path, coerce)
    widened = _widen_number(value, expected)
    return widened if widened is not None else _require_class(value, expected, declared, path)


def _require_class(value: Any, expected: type, declared: Any, path: ValuePath) -> Any:
    """Give a value of an expected class; raises a `TypeMismatch` for any other."""
    if _is_instance(value, expected):
        return value
    raise path.type_error(type_display_name(declared), f"{type(value).__module__}.{type(value).__qualname__}")


def _unwrap_type(declared: Any) -> Any:
    """Give the type behind `Annotated`, `NewType`, an alias, or a type variable, which may have bounds."""
    if get_origin(declared) in _WRAPPERS:
        return _unwrap_type(get_args(declared)[0])
    if isinstance(declared, TypeVar):
        choices = declared.__constraints__
        return _unwrap_type(Union[choices] if choices else declared.__bound__)  # noqa: UP007 - of as many as there are
    for behind in ("__supertype__", "__value__"):
        if type(declared).__module__ == "typing" and hasattr(declared, behind):
            return _unwrap_type(getattr(declared, behind))
    return declared


def _coerce_to_union(value: Any, choices: tuple[Any, ...], declared: Any, path: ValuePath) -> Any:
    """Take the first choice that the value is, with all its elements, else the narrowest number it can be widened to."""
    choices = tuple(map(_unwrap_type, choices))
    mismatch: TypeMismatch | None = None
    for choice in choices:
        if not _matches_choice(value, choice):
            continue
        try:
            return coerce(value, choice, path)
        except TypeMismatch as error:
            mismatch = mismatch or error
    classes = set(map(runtime_class, choices))
    for expected in (kind for kind in _NUMBERS if kind in classes):
        if (widened := _widen_number(value, expected)) is not None:
            return widened
    raise mismatch or path.type_error(declared, type(value).__qualname__)


def _matches_choice(value: Any, choice: Any) -> bool:
    if get_origin(choice) is Literal:
        return _is_literal_value(value, choice)
    expected = dict if typing.is_typeddict(choice) else runtime_class(choice)
    return expected is None or _is_instance(value, expected)


def _check_literal(value: Any, declared: Any, path: ValuePath) -> Any:
    if not _is_literal_value(value, declared):
        raise path.type_error(declared, repr(value))
    return value


def _is_literal_value(value: Any, literal: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in get_args(literal))


def _is_instance(value: Any, expected: type) -> bool:
    try:
        # A DAG file that was imported twice has two classes of one name.
        return isinstance(value, expected) or type_name(expected) in map(type_name, type(value).__mro__)
    except TypeError:
        return not is_protocol(expected) or implements(value, expected)


def _numpy_to_python(value: Any, expected: type | None) -> Any:
    """Give a numpy scalar that happens to be a Python value too (np.float64, np.str_) as the declared one."""
    if expected in (float, complex, str, bytes) and type(value).__module__ == "numpy":
        return expected(value)
    return value


def _widen_number(value: Any, expected: type | None) -> Any:
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
