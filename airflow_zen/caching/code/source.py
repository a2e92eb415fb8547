"""Source files, parsed once and searched by position; and the code behind functions, classes and wrappers."""

from __future__ import annotations
import __future__

import ast
import functools
import importlib.util
import linecache
import operator
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from types import CellType, CodeType, FunctionType
from typing import Any

import msgspec

from airflow_zen.caching.code.distributions import MISSING, CodeOrigin, origin_of_module, unwrap_callable
from airflow_zen.errors import FingerprintError
from airflow_zen.instances import instance_attributes

_FUTURE_FLAGS = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)

_instructions = operator.attrgetter("co_code", "co_names", "co_varnames", "co_freevars")

_HEAP_TYPE = 1 << 9
_PLAIN_TYPES = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))

Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


class Definition(msgspec.Struct, frozen=True):
    """A function, lambda or class in its file, with its qualified name."""

    node: Node
    qualname: str

    @property
    def first_line(self) -> int:
        """The first line of its code object: that of the first decorator."""
        return _first_line(self.node)


class Import(msgspec.Struct, frozen=True):
    """One name bound by an import: a module, or an attribute of it."""

    module: str
    attribute: str | None = None
    level: int = 0


class SourceFile(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One parsed file; its tree is never changed."""

    path: str
    text: str
    tree: ast.Module

    @cached_property
    def definitions(self) -> tuple[Definition, ...]:
        """Every function and class, outer before inner."""
        return tuple(_definitions(self.tree, ""))

    @cached_property
    def lambdas(self) -> tuple[Definition, ...]:
        """Every lambda; searched only when one is reached."""
        return tuple(Definition(node, "<lambda>") for node in ast.walk(self.tree) if isinstance(node, ast.Lambda))

    @cached_property
    def imports(self) -> Mapping[str, Import]:
        """Names that the module binds by import at its top level."""
        return dict(binding for node in _module_level_nodes(self.tree) for binding in import_bindings(node))

    def find_function(self, code: CodeType) -> Definition:
        """Return the definition of a code object, found by its position.

        Raises `FingerprintError` when the file no longer contains the running code.
        """
        among = self.lambdas if code.co_name == "<lambda>" else self.definitions
        named = [one for one in among if getattr(one.node, "name", "<lambda>") == code.co_name]
        found = [one for one in named if one.first_line == code.co_firstlineno]
        if len(found) > 1:
            found = [one for one in found if _is_lambda_of(one.node, code)]
        if len(found) != 1:
            raise FingerprintError(_stale_source_message(code.co_name, self.path))
        return found[0]

    def check_unchanged(self, function: FunctionType) -> None:
        """Raise `FingerprintError` when the file was edited after `function` was loaded from it."""
        if not Path(self.path).is_file() or "@pytest_ar" in function.__globals__:
            return
        code = function.__code__
        # The compiler calls attributes of imported modules in another way than methods.
        near = [
            one
            for one in self.tree.body
            if isinstance(one, ast.Import | ast.ImportFrom)
            or _first_line(one) <= code.co_firstlineno <= (one.end_lineno or 0)
        ]
        if not (_compiles_to(code, near, self.path) or _compiles_to(code, self.tree.body, self.path)):
            raise FingerprintError(_stale_source_message(code.co_name, self.path))


def parse_source_file(path: str, module_globals: Mapping[str, Any]) -> SourceFile | None:
    """Read and parse a file, or the text of that name in a notebook or a zip; None without text."""
    if Path(path).is_file():
        text = importlib.util.decode_source(Path(path).read_bytes())
    else:
        text = "".join(linecache.getlines(path, dict(module_globals)))
    return _parse(path, text) if text else None


@lru_cache(maxsize=256)
def _parse(path: str, text: str) -> SourceFile:
    try:
        return SourceFile(path, text, ast.parse(text))
    except SyntaxError as error:
        raise FingerprintError(f"{Path(path).name} cannot be parsed: {error}. Set cache=False.") from error


def import_bindings(node: ast.AST) -> Iterator[tuple[str, Import]]:
    """Yield the names that an import statement binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            yield name, Import(alias.name if alias.asname else name)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, Import(node.module or "", alias.name, node.level)


def _first_line(node: ast.stmt | ast.expr) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _compiles_to(code: CodeType, statements: list[ast.stmt], path: str) -> bool:
    """Whether compiling these statements gives that code."""
    compiled = compile(ast.Module(statements, []), path, "exec", code.co_flags & _FUTURE_FLAGS, dont_inherit=True)
    return any(_same_code(code, one) for one in _nested_codes(compiled) if one.co_name == code.co_name)


def _definitions(node: ast.AST, prefix: str) -> Iterator[Definition]:
    for child in _child_statements(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield Definition(child, prefix + child.name)
            inside = "" if isinstance(child, ast.ClassDef) else "<locals>."
            yield from _definitions(child, f"{prefix}{child.name}.{inside}")
        else:
            yield from _definitions(child, prefix)


def _child_statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements, handlers and cases directly below a node."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        below = getattr(node, name, ())
        yield from below if isinstance(below, list) else ()


def _module_level_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in _child_statements(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _module_level_nodes(child)


def _is_lambda_of(node: ast.AST, code: CodeType) -> bool:
    """Whether a lambda's body is at the position of the code's instructions."""
    if not isinstance(node, ast.Lambda):
        return False
    body = node.body
    begin, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [place for place in code.co_positions() if place[0] and place[2] is not None and place[3]]
    return (begin, end) == (
        min((line, column) for line, _, column, _ in places),
        max((last, column) for _, last, _, column in places),
    )


def _nested_codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _nested_codes(constant)


def _same_code(one: CodeType, two: CodeType) -> bool:
    """Whether two code objects do the same, whatever lines and columns they name."""
    is_alike = _instructions(one) == _instructions(two) and len(one.co_consts) == len(two.co_consts)
    return is_alike and all(map(_same_constant, one.co_consts, two.co_consts))


def _same_constant(one: Any, two: Any) -> bool:
    if isinstance(one, CodeType) and isinstance(two, CodeType):
        return _same_code(one, two)
    return type(one) is type(two) and repr(one) == repr(two) if not isinstance(one, frozenset) else one == two


def _stale_source_message(name: str, path: str) -> str:
    return (
        f"The running code of {name!r} is not what {Path(path).name} holds now. "
        "Restart the process or reload the module, or set cache=False."
    )


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
    named = [one for one in source.definitions if one.qualname == cls.__qualname__] if source else []
    found = [one for one in named if isinstance(one.node, ast.ClassDef)]
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


def dynamic_class_contents(cls: type) -> dict[str, Any]:
    """Return what makes up a class that was made by a call, such as a namedtuple."""
    return {name: each for name, each in vars(cls).items() if _is_content(cls, name, each)}


def _is_content(cls: type, name: str, value: Any) -> bool:
    if name.startswith("__") or (name.startswith("_") and hasattr(cls, "__members__")):
        return False
    if isinstance(value, FunctionType | classmethod | staticmethod | property):
        functions = (value,) if isinstance(value, FunctionType) else descriptor_functions(value)
        inner = unwrap_callable(functions[0] if functions else None)
        is_written = isinstance(inner, FunctionType) and not inner.__code__.co_filename.startswith("<")
        return is_written and origin_of_function(inner) == "project"
    is_builtin = type(value).__module__ in ("builtins", "collections", "_collections")
    return not (is_builtin and hasattr(type(value), "__get__"))
