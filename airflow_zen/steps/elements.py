"""Hold the elements of a container against the types its annotation gives them."""

from __future__ import annotations

import collections.abc
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from airflow_zen.materializers.names import type_name
from airflow_zen.steps.annotations import runtime_class
from airflow_zen.steps.place import ValuePath, type_display_name

Coerce = Callable[[Any, Any, ValuePath], Any]

_ONE_TYPE_CONTAINERS = (list, tuple, set, frozenset, deque)
_PLAIN_CONTAINERS = (list, tuple, set, frozenset)
_MAPPINGS = (dict, OrderedDict, defaultdict, collections.abc.Mapping, collections.abc.MutableMapping)


def coerce_elements(value: Any, declared: Any, path: ValuePath, coerce: Coerce) -> Any:
    """Give a `list[T]`, `Sequence[T]`, `tuple[…]`, `dict[K, V]` and their like with each element as declared.

    The very value comes back where nothing had to be widened. An element that does not fit is named by its
    place: `scores[3]`. Containers of users' own classes are taken as they are, and so are iterators.
    """
    origin, arguments = get_origin(declared), get_args(declared)
    if not arguments and declared not in (tuple[()], typing.Tuple[()]):  # noqa: UP006 - that is another object
        return value
    if isinstance(origin, type) and type_name(origin) == "numpy.ndarray":
        return _check_dtype(value, arguments[-1], path)
    if origin is tuple and isinstance(value, tuple):
        return _coerce_sequence(value, _tuple_types(value, declared, path), path, coerce)
    if origin is Counter and type(value) is Counter:
        return _coerce_mapping(value, arguments[0], int, path, coerce)
    if origin in _MAPPINGS and isinstance(value, dict):
        return _coerce_mapping(value, arguments[0], arguments[1], path, coerce)
    if type(value) in _ONE_TYPE_CONTAINERS and len(arguments) == 1:
        return _coerce_sequence(value, arguments * len(value), path, coerce)
    return value


def _check_dtype(value: Any, dtype: Any, path: ValuePath) -> Any:
    """Give an array as declared by `NDArray[np.float64]`; what is no class of NumPy's says nothing of it."""
    wanted: Any = next(iter(get_args(dtype)), None)
    if getattr(wanted, "__module__", "") == "numpy" and not issubclass(value.dtype.type, wanted):
        raise path.type_error(f"an array of {type_name(wanted)}", f"one of {value.dtype}")
    return value


def coerce_fields(value: Any, declared: Any, path: ValuePath, coerce: Coerce) -> Any:
    """Give a dict with the keys that a `TypedDict` has, and each value as declared; raises a `TypeMismatch`."""
    missing, extra = declared.__required_keys__ - set(value), set(value) - set(declared.__annotations__)
    if missing or extra:
        what = f"without {sorted(missing)}" if missing else f"with {sorted(map(str, extra))}"
        raise path.type_error(type_display_name(declared), f"a dict {what}")
    hints = _field_hints(declared)
    coerced = {key: coerce(item, hints.get(key), path.at(f"[{key!r}]")) for key, item in value.items()}
    return value if _are_identical(value.values(), coerced.values()) else coerced


def _field_hints(declared: Any) -> Mapping[str, Any]:
    try:
        return get_type_hints(declared, include_extras=True)
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only can fail in any way
        return {}


def _tuple_types(value: Any, declared: Any, path: ValuePath) -> tuple[Any, ...]:
    """Give the type of each place; `tuple[A, *tuple[B, ...]]` has as many of B as there are left."""
    arguments, length = get_args(declared), len(value)
    if Ellipsis in arguments:
        return (arguments[0],) * length
    for at, argument in enumerate(arguments):
        many = get_args(argument)
        if getattr(argument, "__unpacked__", False) and Ellipsis in many:
            between = length - len(arguments) + 1
            arguments = (*arguments[:at], *(many[0],) * between, *arguments[at + 1 :])
            break
    if len(arguments) != length:
        raise path.type_error(declared, f"a tuple of {length}")
    return arguments


def _coerce_sequence(value: Any, declared: tuple[Any, ...], path: ValuePath, coerce: Coerce) -> Any:
    if len(set(map(id, declared))) == 1 and _all_of_class(value, declared[0]):
        return value
    places = zip(value, declared, strict=True)
    coerced = [coerce(item, wanted, path.at(f"[{at}]")) for at, (item, wanted) in enumerate(places)]
    if _are_identical(value, coerced):
        return value
    if type(value) in _PLAIN_CONTAINERS:
        return type(value)(coerced)
    return deque(coerced, value.maxlen) if type(value) is deque else value


def _coerce_mapping(value: dict[Any, Any], key: Any, item: Any, path: ValuePath, coerce: Coerce) -> Any:
    if _all_of_class(value, key) and _all_of_class(value.values(), item):
        return value
    coerced = {
        coerce(one, key, path.at(" key")): coerce(other, item, path.at(f"[{one!r}]")) for one, other in value.items()
    }
    if _are_identical(value, coerced) and _are_identical(value.values(), coerced.values()):
        return value
    if type(value) is defaultdict:
        return defaultdict(value.default_factory, coerced)
    return type(value)(coerced) if type(value) in (dict, OrderedDict, Counter) else value


def _are_identical(value: Iterable[Any], coerced: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(value, coerced, strict=True))


def _all_of_class(items: Iterable[Any], declared: Any) -> bool:
    """Tell at C speed that all are of exactly the declared class, which has no elements of its own."""
    return not get_args(declared) and set(map(type, items)) <= {runtime_class(declared)}
