"""Hold the elements of a container against the types its annotation gives them."""

from __future__ import annotations

import collections.abc
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from airflow_zen.materializers.names import type_name
from airflow_zen.steps.annotations import as_class
from airflow_zen.steps.place import Place, class_name

Fit = Callable[[Any, Any, Place], Any]

_OF_ONE = (list, tuple, set, frozenset, deque)
_PLAIN = (list, tuple, set, frozenset)
_MAPPINGS = (dict, OrderedDict, defaultdict, collections.abc.Mapping, collections.abc.MutableMapping)


def fit_elements(value: Any, declared: Any, place: Place, fit: Fit) -> Any:
    """Give a `list[T]`, `Sequence[T]`, `tuple[…]`, `dict[K, V]` and their like with each element as declared.

    The very value comes back where nothing had to be widened. An element that does not fit is named by its
    place: `scores[3]`. Containers of users' own classes are taken as they are, and so are iterators.
    """
    origin, arguments = get_origin(declared), get_args(declared)
    if not arguments and declared not in (tuple[()], typing.Tuple[()]):  # noqa: UP006 - that is another object
        return value
    if isinstance(origin, type) and type_name(origin) == "numpy.ndarray":
        return _of_dtype(value, arguments[-1], place)
    if origin is tuple and isinstance(value, tuple):
        return _fitted(value, _of_tuple(value, declared, place), place, fit)
    if origin is Counter and type(value) is Counter:
        return _fitted_mapping(value, arguments[0], int, place, fit)
    if origin in _MAPPINGS and isinstance(value, dict):
        return _fitted_mapping(value, arguments[0], arguments[1], place, fit)
    if type(value) in _OF_ONE and len(arguments) == 1:
        return _fitted(value, arguments * len(value), place, fit)
    return value


def _of_dtype(value: Any, dtype: Any, place: Place) -> Any:
    """Give an array as declared by `NDArray[np.float64]`; what is no class of NumPy's says nothing of it."""
    wanted: Any = next(iter(get_args(dtype)), None)
    if getattr(wanted, "__module__", "") == "numpy" and not issubclass(value.dtype.type, wanted):
        raise place.misfit(f"an array of {type_name(wanted)}", f"one of {value.dtype}")
    return value


def fit_fields(value: Any, declared: Any, place: Place, fit: Fit) -> Any:
    """Give a dict with the keys that a `TypedDict` has, and each value as declared; raises a `Misfit`."""
    missing, extra = declared.__required_keys__ - set(value), set(value) - set(declared.__annotations__)
    if missing or extra:
        what = f"without {sorted(missing)}" if missing else f"with {sorted(map(str, extra))}"
        raise place.misfit(class_name(declared), f"a dict {what}")
    hints = _hints(declared)
    fitted = {key: fit(item, hints.get(key), place.at(f"[{key!r}]")) for key, item in value.items()}
    return value if _are_same(value.values(), fitted.values()) else fitted


def _hints(declared: Any) -> Mapping[str, Any]:
    try:
        return get_type_hints(declared, include_extras=True)
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only can fail in any way
        return {}


def _of_tuple(value: Any, declared: Any, place: Place) -> tuple[Any, ...]:
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
        raise place.misfit(declared, f"a tuple of {length}")
    return arguments


def _fitted(value: Any, declared: tuple[Any, ...], place: Place, fit: Fit) -> Any:
    if len(set(map(id, declared))) == 1 and _all_are(value, declared[0]):
        return value
    places = zip(value, declared, strict=True)
    fitted = [fit(item, wanted, place.at(f"[{at}]")) for at, (item, wanted) in enumerate(places)]
    if _are_same(value, fitted):
        return value
    if type(value) in _PLAIN:
        return type(value)(fitted)
    return deque(fitted, value.maxlen) if type(value) is deque else value


def _fitted_mapping(value: dict[Any, Any], key: Any, item: Any, place: Place, fit: Fit) -> Any:
    if _all_are(value, key) and _all_are(value.values(), item):
        return value
    fitted = {fit(one, key, place.at(" key")): fit(other, item, place.at(f"[{one!r}]")) for one, other in value.items()}
    if _are_same(value, fitted) and _are_same(value.values(), fitted.values()):
        return value
    if type(value) is defaultdict:
        return defaultdict(value.default_factory, fitted)
    return type(value)(fitted) if type(value) in (dict, OrderedDict, Counter) else value


def _are_same(value: Iterable[Any], fitted: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(value, fitted, strict=True))


def _all_are(items: Iterable[Any], declared: Any) -> bool:
    """Tell at C speed that all are of exactly the declared class, which has no elements of its own."""
    return not get_args(declared) and set(map(type, items)) <= {as_class(declared)}
