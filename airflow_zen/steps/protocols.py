"""Hold a value against a protocol that is not `@runtime_checkable`."""

from __future__ import annotations

import inspect
from typing import Any, Protocol


def is_protocol(declared: Any) -> bool:
    """Tell whether a declared class is a protocol itself, not one that only implements it."""
    return bool(vars(declared).get("_is_protocol", False)) if isinstance(declared, type) else False


def implements(value: Any, protocol: Any) -> bool:
    """Tell whether a value has the members of a protocol; their types are not seen."""
    return all(_has_member(value, name) for name in _protocol_members(protocol))


def _protocol_members(protocol: Any) -> set[str]:
    bases = (base for base in protocol.__mro__ if is_protocol(base) and base is not Protocol)
    named = {name for base in bases for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return {name for name in named if not name.startswith("_") or name == "__call__"}


def _has_member(value: Any, name: str) -> bool:
    try:
        inspect.getattr_static(value, name)
    except AttributeError:
        return hasattr(value, name)
    return True
