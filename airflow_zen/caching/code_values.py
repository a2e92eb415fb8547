"""How the values that code refers to are told apart: callables, instances, and things without effect."""

from __future__ import annotations

import functools
import logging
import sys
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from airflow_zen.caching.distributions import FRAMEWORK
from airflow_zen.fingerprint import instance_attributes

_LOCKS = ("lock", "RLock", "_RLock")
_HEAP_TYPE = 1 << 9


def is_inert(value: Any) -> bool:
    """Recognise loggers and locks: no result depends on them."""
    cls = type(value)
    if isinstance(value, logging.Logger | logging.LoggerAdapter) or cls.__module__.partition(".")[0] == "structlog":
        return True
    return cls.__module__ in ("_thread", "threading") and cls.__name__ in _LOCKS


def unwrap_callable(value: Any) -> Any:
    """Take off partials, methods and wrappers, down to the function that was written."""
    while True:
        inside = wrapped_callable(value)
        if inside is None and isinstance(value, functools.partial | MethodType):
            inside = value.func if isinstance(value, functools.partial) else value.__func__
        if inside is None:
            return value
        value = inside


def wrapped_callable(value: Any) -> Any:
    """Give what a wrapper declares to wrap, or None."""
    if isinstance(value, type):
        return None
    attributes = getattr(value, "__dict__", {})
    wrapped = attributes.get("__wrapped__")
    if wrapped is None and _is_in_framework_module(type(value)):
        wrapped = attributes.get("function")
    return wrapped if callable(wrapped) else None


def is_framework_object(value: Any) -> bool:
    """Recognise Airflow's and our own decorators, and what they make."""
    while isinstance(value, functools.partial):
        value = value.func
    name = value.__name__ if hasattr(value, "__path__") or hasattr(value, "__loader__") else None
    named = value if isinstance(value, type | FunctionType | BuiltinFunctionType) else type(value)
    return _is_in_framework_module(named) or str(name).partition(".")[0] in FRAMEWORK


def _is_in_framework_module(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in FRAMEWORK


def importable_name(value: Any) -> tuple[str, str] | None:
    """Give module and qualified name of a value that can be imported by them, as pickle would."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is value else None


def instance_contents(value: Any) -> Any:
    """Give all that an instance of a project's class holds, or None when part of it is hidden in C."""
    cls = type(value)
    if not all(base.__flags__ & _HEAP_TYPE or base in (object, Exception, BaseException) for base in cls.__mro__):
        return None
    arguments = value.args if isinstance(value, BaseException) else ()
    return arguments, instance_attributes(value)


def descriptor_functions(value: Any) -> tuple[Any, ...]:
    """Give the functions behind a static or class method, a property or a cached property."""
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    if isinstance(value, property):
        return tuple(each for each in (value.fget, value.fset, value.fdel) if each)
    return (value.func,) if isinstance(value, functools.cached_property) else ()
