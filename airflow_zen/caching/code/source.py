"""The source file of a function or class: parsed once, searched by position."""

from __future__ import annotations
import __future__

import ast
import functools
import importlib.util
import linecache
import operator
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import msgspec

from airflow_zen.errors import FingerprintError

_FUTURE_FLAGS = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)

_instructions = operator.attrgetter("co_code", "co_names", "co_varnames", "co_freevars")

Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


class Definition(msgspec.Struct, frozen=True):
    """A function, lambda or class in its file, with its qualified name."""

    node: Node
    qualname: str

    @property
    def first_line(self) -> int:
        """The first line of its code object: that of the first decorator."""
        return _first_line(self.node)

    @property
    def code_name(self) -> str:
        """The name of its code object."""
        return "<lambda>" if isinstance(self.node, ast.Lambda) else self.node.name


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
        found = [one for one in among if one.first_line == code.co_firstlineno and one.code_name == code.co_name]
        if len(found) > 1:
            found = [one for one in found if _is_lambda_of(one.node, code)]
        if len(found) != 1:
            raise FingerprintError(_stale_source_message(code.co_name, self.path))
        return found[0]

    def find_classes(self, qualname: str) -> list[Definition]:
        """Return every class of a qualified name; several when branches define it."""
        return [one for one in self.definitions if one.qualname == qualname and isinstance(one.node, ast.ClassDef)]

    def check_unchanged(self, function: FunctionType) -> None:
        """Raise `FingerprintError` when the file was edited after `function` was loaded from it."""
        if not Path(self.path).is_file() or "@pytest_ar" in function.__globals__:
            return
        code = function.__code__
        near = [one for one in self.tree.body if _is_import(one) or _contains_line(one, code.co_firstlineno)]
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


def _contains_line(node: ast.stmt, line: int) -> bool:
    return _first_line(node) <= line <= (node.end_lineno or 0)


def _is_import(node: ast.stmt) -> bool:
    # The compiler calls attributes of imported modules in another way than methods.
    return isinstance(node, ast.Import | ast.ImportFrom)


def _compiles_to(code: CodeType, statements: list[ast.stmt], path: str) -> bool:
    """Whether compiling these statements gives that code."""
    compiled = compile(ast.Module(statements, []), path, "exec", code.co_flags & _FUTURE_FLAGS, dont_inherit=True)
    return any(_same_code(code, one) for one in _nested_codes(compiled) if one.co_name == code.co_name)


def _definitions(node: ast.AST, prefix: str) -> Iterator[Definition]:
    for child in _child_statements(node):
        if isinstance(child, ast.ClassDef):
            yield Definition(child, prefix + child.name)
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Definition(child, prefix + child.name)
            yield from _definitions(child, f"{prefix}{child.name}.<locals>.")
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
    return (
        _instructions(one) == _instructions(two)
        and len(one.co_consts) == len(two.co_consts)
        and all(_same_constant(*pair) for pair in zip(one.co_consts, two.co_consts, strict=True))
    )


def _same_constant(one: Any, two: Any) -> bool:
    if isinstance(one, CodeType) and isinstance(two, CodeType):
        return _same_code(one, two)
    return type(one) is type(two) and repr(one) == repr(two) if not isinstance(one, frozenset) else one == two


def _stale_source_message(name: str, path: str) -> str:
    return (
        f"The running code of {name!r} is not what {Path(path).name} holds now. "
        "Restart the process or reload the module, or set cache=False."
    )
