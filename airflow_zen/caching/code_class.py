"""Where a class was written, and what it holds beyond its text."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

import msgspec

from airflow_zen.caching.code_values import unwrap_callable
from airflow_zen.caching.source import Definition, SourceFile, parse_source_file

_PLAIN_TYPES = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))


class ClassSource(msgspec.Struct, frozen=True):
    """The text of a class (more than one when branches define it), and the names its methods see."""

    source: SourceFile
    definitions: tuple[Definition, ...]
    globals: Mapping[str, Any]
    cells: Mapping[str, Any]

    def runtime_attributes(self, cls: type) -> Iterator[tuple[str, Any]]:
        """Give each attribute whose present value the text does not tell."""
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
    """Find the text of a class; None when a call made it.

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
    return ClassSource(source, tuple(found), names, _method_closures(written))


def _method_closures(methods: list[FunctionType]) -> dict[str, Any]:
    cells = {}
    for method in methods:
        for name, cell in zip(method.__code__.co_freevars, method.__closure__ or (), strict=True):
            if name != "__class__":
                try:
                    cells[name] = cell.cell_contents
                except ValueError:
                    continue
    return cells


def _underlying_function(value: Any) -> FunctionType | None:
    """Give the function behind a method of any kind."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    value = unwrap_callable(value)
    return value if isinstance(value, FunctionType) else None


def _assigned_names(node: Any) -> Iterator[tuple[str, ast.expr | None]]:
    for statement in ast.walk(node):
        if isinstance(statement, ast.Assign):
            yield from ((each.id, statement.value) for each in statement.targets if isinstance(each, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.value


def is_written_literal(written: ast.expr | None, value: Any) -> bool:
    """Tell whether the text already says this value."""
    return isinstance(written, ast.Constant) and type(written.value) is type(value) and written.value == value
