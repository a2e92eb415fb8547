"""Hold the elements of a returned container against the types its annotation gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args, get_origin

from airflow_zen.steps.annotations import as_class

Fit = Callable[[Any, Any, str], Any]

_OF_ONE = (list, set, frozenset)


def fit_elements(value: Any, declared: Any, name: str, fit: Fit) -> Any:
    """Give a `list[T]`, `set[T]`, `tuple[…]` or `dict[K, V]` with each element as declared.

    The very value comes back where nothing had to be widened. An element that does not fit is named by its
    place: `scores[3]`. Containers of other classes are taken as they are.
    """
    origin, arguments = get_origin(declared), get_args(declared)
    if type(value) is not origin or not arguments:
        return value
    if origin in _OF_ONE:
        return _fitted(value, [arguments[0]] * len(value), origin, name, fit)
    if origin is tuple:
        return _fitted(value, _of_tuple(arguments, len(value)), tuple, name, fit)
    if origin is dict and len(arguments) == 2:
        return _fitted_dict(value, *arguments, name, fit)
    return value


def _of_tuple(arguments: tuple[Any, ...], length: int) -> list[Any]:
    if Ellipsis in arguments:
        return [arguments[0]] * length
    return list(arguments) if len(arguments) == length else [None] * length


def _fitted(value: Any, declared: list[Any], build: Callable[[Iterable[Any]], Any], name: str, fit: Fit) -> Any:
    if len(set(map(id, declared))) == 1 and _all_are(value, declared[0]):
        return value
    places = zip(value, declared, strict=True)
    fitted = [fit(item, wanted, f"{name}[{place}]") for place, (item, wanted) in enumerate(places)]
    same = all(one is other for one, other in zip(value, fitted, strict=True))
    return value if same else build(fitted)


def _fitted_dict(value: dict[Any, Any], key: Any, item: Any, name: str, fit: Fit) -> Any:
    if _all_are(value, key) and _all_are(value.values(), item):
        return value
    fitted = {fit(one, key, f"{name} key"): fit(other, item, f"{name}[{one!r}]") for one, other in value.items()}
    same = all(one is other for one, other in zip(value, fitted, strict=True)) and all(
        one is other for one, other in zip(value.values(), fitted.values(), strict=True)
    )
    return value if same else fitted


def _all_are(items: Iterable[Any], declared: Any) -> bool:
    """Tell at C speed that all are of exactly the declared class, which has no elements of its own."""
    return not get_args(declared) and set(map(type, items)) <= {as_class(declared)}
