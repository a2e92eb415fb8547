"""Classification of the values that code refers to: callables, instances, classes and inert values."""

from __future__ import annotations

import ast
import functools
import logging
import sys
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, CellType, FunctionType, MethodType
from typing import Any

import msgspec

from airflow_zen.caching.code.distributions import FRAMEWORK, CodeOrigin, origin_of_module
from airflow_zen.caching.code.scope import MISSING
from airflow_zen.caching.code.source import Definition, SourceFile, parse_source_file
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import instance_attributes

_LOCKS = ("lock", "RLock", "_RLock")
_HEAP_TYPE = 1 << 9


def is_inert(value: Any) -> bool:
    """Whether a value is a logger or a lock, on which no result depends."""
    cls = type(value)
    if isinstance(value, logging.Logger | logging.LoggerAdapter) or cls.__module__.partition(".")[0] == "structlog":
        return True
    return cls.__module__ in ("_thread", "threading") and cls.__name__ in _LOCKS


def unwrap_callable(value: Any) -> Any:
    """Return the function inside partials, methods and wrappers."""
    while True:
        inside = wrapped_callable(value)
        if inside is None and isinstance(value, functools.partial | MethodType):
            inside = value.func if isinstance(value, functools.partial) else value.__func__
        if inside is None:
            return value
        value = inside


def wrapped_callable(value: Any) -> Any:
    """Return the callable that a wrapper declares to wrap, or None."""
    if isinstance(value, type):
        return None
    attributes = getattr(value, "__dict__", {})
    wrapped = attributes.get("__wrapped__")
    if wrapped is None and _is_in_framework_module(type(value)):
        wrapped = attributes.get("function")
    return wrapped if callable(wrapped) else None


def is_framework_object(value: Any) -> bool:
    """Whether a value is a decorator of Airflow or our own, or was made by one."""
    while isinstance(value, functools.partial):
        value = value.func
    name = value.__name__ if hasattr(value, "__path__") or hasattr(value, "__loader__") else None
    named = value if isinstance(value, type | FunctionType | BuiltinFunctionType) else type(value)
    return _is_in_framework_module(named) or str(name).partition(".")[0] in FRAMEWORK


def _is_in_framework_module(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in FRAMEWORK


def importable_name(value: Any) -> tuple[str, str] | None:
    """Return module and qualified name of a value that can be imported by them, as pickle would."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is value else None


def instance_contents(value: Any) -> Any:
    """Return all that an instance of a project's class holds, or None when part of it is hidden in C."""
    cls = type(value)
    if not all(base.__flags__ & _HEAP_TYPE or base in (object, Exception, BaseException) for base in cls.__mro__):
        return None
    arguments = value.args if isinstance(value, BaseException) else ()
    return arguments, instance_attributes(value)


def descriptor_functions(value: Any) -> tuple[Any, ...]:
    """Return the functions behind a static or class method, a property or a cached property."""
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    if isinstance(value, property):
        return tuple(each for each in (value.fget, value.fset, value.fdel) if each)
    return (value.func,) if isinstance(value, functools.cached_property) else ()


def origin_of_function(function: FunctionType) -> CodeOrigin:
    """Return whose code a function is, by the file of its code object."""
    file = function.__code__.co_filename
    module = str(function.__globals__.get("__name__", ""))
    if file.startswith("<"):
        # A notebook's cells belong to no file, and `__main__` has the file of the notebook server.
        return "project" if module == "__main__" else origin_of_module(module)
    return origin_of_module(module, file)


def function_source(function: FunctionType) -> SourceFile:
    """Return the parsed file of a function; raises `FingerprintError` when there is none."""
    source = parse_source_file(function.__code__.co_filename, function.__globals__)
    if source is None:
        raise FingerprintError(
            f"{function.__qualname__!r} has no source text: it was typed at a prompt or made by exec. "
            "Define it in a file, or set cache=False."
        )
    return source


def closure_variables(function: FunctionType) -> dict[str, Any]:
    """Return the variables of enclosing functions that a function uses; `MISSING` for one not yet set."""
    names = function.__code__.co_freevars
    cells = zip(names, function.__closure__ or (), strict=True)
    return {name: cell_value(cell) for name, cell in cells if name != "__class__"}


def cell_value(cell: CellType) -> Any:
    """Return the content of a closure's cell, `MISSING` before it is set."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


_PLAIN_TYPES = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))


class ClassSource(msgspec.Struct, frozen=True):
    """The text of a class (several texts when branches define it), and the names its methods see."""

    source: SourceFile
    definitions: tuple[Definition, ...]
    globals: Mapping[str, Any]
    cells: Mapping[str, Any]

    def runtime_attributes(self, cls: type) -> Iterator[tuple[str, Any]]:
        """Yield each attribute whose present value the text does not tell."""
        written = {name: value for each in self.definitions for name, value in _assigned_names(each.node)}
        for name, value in sorted(vars(cls).items()):
            if name.startswith("__") or (name.startswith("_") and name.endswith("_")) or self._is_method(value):
                continue
            if name in written:
                if not is_written_literal(written[name], value) and not hasattr(type(value), "__set__"):
                    yield name, value
            elif type(value) in _PLAIN_TYPES or _underlying_function(value) is not None:
                yield name, value

    def _is_method(self, value: Any) -> bool:
        function = _underlying_function(value)
        if function is None:
            return False
        code = function.__code__
        spans = [(each.first_line, each.node.end_lineno or 0) for each in self.definitions]
        inside = any(begin <= code.co_firstlineno <= end for begin, end in spans)
        return code.co_filename.startswith("<") or (code.co_filename == self.source.path and inside)


def class_source(cls: type) -> ClassSource | None:
    """Return the text of a class; None for one that was made by a call.

    Raises `FingerprintError` when its file was edited after it was loaded.
    """
    methods = [each for each in map(_underlying_function, vars(cls).values()) if each is not None]
    module = sys.modules.get(cls.__module__)
    names = vars(module) if module else methods[0].__globals__ if methods else {}
    own = [
        each for each in methods if each.__globals__ is names and not each.__code__.co_filename.startswith("<string")
    ]
    path = names.get("__file__") or next((each.__code__.co_filename for each in own), None)
    source = parse_source_file(path, names) if path else None
    found = source.find_classes(cls.__qualname__) if source else []
    if source is None or not found:
        return None
    written = [each for each in own if each.__code__.co_filename == source.path]
    for each in written:
        source.check_unchanged(each)
    cells = {name: value for each in written for name, value in closure_variables(each).items() if value is not MISSING}
    return ClassSource(source, tuple(found), names, cells)


def _underlying_function(value: Any) -> FunctionType | None:
    """Return the function behind a method of any kind."""
    functions = descriptor_functions(value)
    value = unwrap_callable(functions[0] if functions else value)
    return value if isinstance(value, FunctionType) else None


def _assigned_names(node: Any) -> Iterator[tuple[str, ast.expr | None]]:
    for statement in ast.walk(node):
        if isinstance(statement, ast.Assign):
            yield from ((each.id, statement.value) for each in statement.targets if isinstance(each, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.value


def is_written_literal(written: ast.expr | None, value: Any) -> bool:
    """Whether the text already contains this value."""
    return isinstance(written, ast.Constant) and type(written.value) is type(value) and written.value == value
