"""The parts of an instance: its attributes, and the parts that pickle would rebuild it from."""

from __future__ import annotations

import copyreg
from types import FunctionType
from typing import Any, NamedTuple

_REDUCERS = {"__reduce__", "__reduce_ex__"}


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
    cached = {name for name in attributes if type(getattr(cls, str(name), None)).__name__ == "cached_property"}
    return {name: held for name, held in attributes.items() if name not in cached}


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
    if state is None and _top_module(_reducing_class(cls)) != _top_module(cls):
        # What a class adds to one of another library, which knows nothing of it.
        state = instance_attributes(value) or None
    if type(state) is dict:
        state = _without_cached(cls, state)
    if inner := _overridden_parts(value):
        state = state, inner, instance_attributes(value)
    return PickledParts(rebuild, arguments, state, list(elements or ()), list(items or ()))


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
    """Return the functions of a check of pandera that users registered; pandera registers its own when it is first used."""
    return [
        each for each in vars(dispatcher)["_function_registry"].values() if not each.__module__.startswith("pandera.")
    ]
