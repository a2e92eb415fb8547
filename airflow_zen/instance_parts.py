"""The parts of an instance: its attributes, and the parts that pickle would rebuild it from."""

from __future__ import annotations

import copyreg
from types import FunctionType
from typing import Any, NamedTuple

_REDUCERS = {"__reduce__", "__reduce_ex__"}
# Descriptors of many libraries that keep what they computed as an attribute of the instance.
_CACHED = {"cached_property", "lazy_property", "lazyproperty", "memoized_attribute", "memoized_property", "reify"}
# What the use of an object of a library changes in it: attributes, those that xarray makes empty when they are read, and
# positions in the tuples that pickle would rebuild it of. scikit-learn keeps the address of words that it has checked, and
# counts queries; a context of decimal has flags of what it met.
_CHANGED_BY_USE = {"_memoized_keys": "sqlalchemy", "_stop_words_id": "sklearn"}
_EMPTY_IF_READ = {"_attrs": "xarray", "_encoding": "xarray"}
_POSITIONS_CHANGED_BY_USE = {
    "decimal.Context": {6},
    **{
        f"sklearn.neighbors.{tree}.BinaryTree{bits}": {7, 8, 9, 10}
        for tree in ("_kd_tree", "_ball_tree")
        for bits in (32, 64)
    },
}


def instance_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes and slots of an instance, without cached properties."""
    cls = type(value)
    slots = [name for base in cls.__mro__ for name in _slots(base)]
    state = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return state | _without_cached(cls, getattr(value, "__dict__", {}))


def _slots(cls: type) -> list[str]:
    slots = cls.__dict__.get("__slots__", ()) if cls.__module__ != "builtins" else ()
    names = [slots] if isinstance(slots, str) else list(slots)
    private = f"_{cls.__name__.lstrip('_')}"
    mangled = [private + name if name.startswith("__") and not name.endswith("__") else name for name in names]
    return [name for name in mangled if name not in ("__dict__", "__weakref__", "__pydantic_fields_set__")]


def _without_cached(cls: type, attributes: dict[Any, Any]) -> dict[Any, Any]:
    libraries = {_top_module(base) for base in cls.__mro__}
    kept = {name: held for name, held in attributes.items() if _CHANGED_BY_USE.get(name) not in libraries}
    empty = {name: None for name, held in kept.items() if _EMPTY_IF_READ.get(name) in libraries and held == {}}
    return {name: held for name, held in (kept | empty).items() if not _is_cached(cls, name)}


def _is_cached(cls: type, name: Any) -> bool:
    return type(getattr(cls, str(name), None)).__name__ in _CACHED


class PickledParts(NamedTuple):
    """What pickle rebuilds an object of: `rebuild(*arguments)`, then its state, elements and items."""

    rebuild: Any
    arguments: Any
    state: Any
    elements: list[Any]
    items: list[Any]


def pickled_parts(value: Any) -> PickledParts | str:
    """Return what pickle would rebuild an object of, or the name under which a module holds it.

    Raises what pickle raises for an object that cannot be pickled.
    """
    cls = type(value)
    reduce = copyreg.dispatch_table.get(cls)
    reduced = reduce(value) if reduce else value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return reduced
    rebuild, arguments, state, elements, items = (*reduced, None, None, None)[:5]
    arguments, state = (_without_use(cls, held) for held in (arguments, state))
    if state is None and _top_module(_reducing_class(cls)) != _top_module(cls):
        # What a class adds to one of another library, which knows nothing of it.
        state = instance_attributes(value) or None
    if type(state) is dict:
        state = _without_cached(cls, state)
    if type(state) is tuple and len(state) == 2 and all(type(each) in (dict, type(None)) for each in state):
        # Attributes, and slots.
        state = tuple(_without_cached(cls, each or {}) for each in state)
    if inner := _overridden_parts(value):
        state = state, inner, instance_attributes(value)
    return PickledParts(rebuild, arguments, state, list(elements or ()), list(items or ()))


def _without_use(cls: type, held: Any) -> Any:
    names = {f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__}
    changed = {at for name in names & _POSITIONS_CHANGED_BY_USE.keys() for at in _POSITIONS_CHANGED_BY_USE[name]}
    return tuple(item for at, item in enumerate(held) if at not in changed) if changed and type(held) is tuple else held


def _overridden_parts(value: Any) -> tuple[Any, ...]:
    """Return arguments and state that a base in C would give pickle, where a method in Python overrides it."""
    reducers = [_reducer(base) for base in type(value).__mro__[:-1] if _REDUCERS & vars(base).keys()]
    below = next((each for each in reducers if not isinstance(each, FunctionType)), None)
    if below is None or below is reducers[0]:
        return ()
    found = below(value, 4) if below.__name__ == "__reduce_ex__" else below(value)
    return found[1:3] if isinstance(found, tuple) else (found,)


def _reducer(cls: type) -> Any:
    return vars(cls).get("__reduce_ex__") or vars(cls)["__reduce__"]


def _reducing_class(cls: type) -> type:
    return next(base for base in cls.__mro__ if _REDUCERS & vars(base).keys())


def _top_module(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def own_functions(dispatcher: Any) -> list[Any]:
    """Return the functions of a check of pandera that users registered; pandera registers its own when it is first used.

    This is known of pandera only: the functions of a library in another registry may be what a user chose.
    """
    return [
        each for each in vars(dispatcher)["_function_registry"].values() if not each.__module__.startswith("pandera.")
    ]
