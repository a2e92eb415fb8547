"""The part of a definition that decides its result, as text, and the names that part refers to."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import msgspec

from airflow_zen.caching.code.names import (
    Reference,
    ReferenceCollector,
    collect_references,
    declared_parameters,
    external_names,
    last_name,
)
from airflow_zen.caching.code.source import Import, import_bindings

DecoratorFilter = Callable[[ast.expr], bool]

# Decorators that never read the annotations of what they decorate.
_IGNORE_ANNOTATIONS = {
    "abstractmethod", "asynccontextmanager", "cache", "cached_property", "classmethod", "contextmanager",
    "deleter", "getter", "lru_cache", "property", "setter", "staticmethod", "wraps",
}  # fmt: skip


# Statements that hold others; `match` holds them in its cases.
_BLOCK_STATEMENTS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.ExceptHandler, ast.match_case,
)  # fmt: skip


class NormalizedSource(msgspec.Struct, frozen=True):
    """Normalised source, with every name in it that is defined elsewhere.

    `imports` are bound inside the code itself; `computed` are builtins and calls whose effect the text
    does not show, such as `exec`.
    """

    text: str
    references: tuple[Reference, ...]
    imports: tuple[tuple[str, Import], ...]
    modules: tuple[str, ...]
    decorators: frozenset[tuple[str, ...]] = frozenset()


def normalize_source(node: ast.AST, is_dropped: DecoratorFilter, free: Iterable[str] = ()) -> NormalizedSource:
    """Drop what cannot change a result: docstrings, annotations, formatting, comments, dropped decorators.

    `free` names the variables of enclosing functions that the code uses. Annotations in the body of a
    class that could be made of them (it has a base, a decorator or a metaclass) stay, and so do those
    of a function whose decorator could read them.
    """
    kept = _Normalizer(is_dropped).visit(node)
    lifted = _extract_imports(kept)
    text = ast.unparse(ast.fix_missing_locations(kept))
    inner = tuple(binding for child in ast.walk(kept) for binding in import_bindings(child))
    found = ReferenceCollector()
    found.visit(_without_defaults(kept))
    outside = external_names(text, tuple(free)) | {name for name, _ in inner} | found.globals
    references = {reference for reference in found.references if reference.chain[0] in outside}
    ordered = sorted(references, key=lambda one: (one.chain, one.has_argument))
    imports = sorted({*inner, *lifted}, key=repr)
    above = {one.chain for each in getattr(kept, "decorator_list", []) for one in collect_references(each)}
    return NormalizedSource(text, tuple(ordered), tuple(imports), tuple(sorted(found.modules)), frozenset(above))


class _Normalizer:
    """Copy a tree without what cannot change a result; the original stays as it is."""

    def __init__(self, is_dropped: DecoratorFilter) -> None:
        self.is_dropped = is_dropped

    def visit(self, node: ast.AST) -> Any:
        copied = type(node)(**{name: self._normalize_field(value) for name, value in ast.iter_fields(node)})
        if isinstance(copied, ast.FunctionDef | ast.AsyncFunctionDef):
            return self._normalize_function(copied)
        if isinstance(copied, ast.ClassDef):
            return self._normalize_class(copied)
        if isinstance(copied, ast.If) and last_name(copied.test) == "TYPE_CHECKING":
            return ast.If(ast.Constant(True), copied.orelse, []) if copied.orelse else ast.Pass()
        return _strip_block_annotations(copied) if isinstance(copied, _BLOCK_STATEMENTS) else copied

    def _normalize_field(self, value: Any) -> Any:
        if isinstance(value, ast.AST):
            return self.visit(value)
        return self._normalize_list(value) if isinstance(value, list) else value

    def _normalize_list(self, values: list[Any]) -> list[Any]:
        kept = [value for value in values if not _is_no_op(value)]
        if values and not kept:
            return [ast.Pass()]
        return [self._normalize_field(value) for value in kept]

    def _normalize_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.decorator_list = [each for each in node.decorator_list if not self.is_dropped(each)]
        node.type_comment = None
        if all(last_name(each) in _IGNORE_ANNOTATIONS for each in node.decorator_list):
            node.returns = None
            for argument in declared_parameters(node.args):
                argument.annotation = None
        node.body = [_strip_annotation(each) for each in node.body if not _is_bare_annotation(each)] or [ast.Pass()]
        return node

    def _normalize_class(self, node: ast.ClassDef) -> ast.AST:
        node.decorator_list = [each for each in node.decorator_list if not self.is_dropped(each)]
        if not (node.bases or node.keywords or node.decorator_list):
            node.body = [_strip_annotation(each) for each in node.body if not _is_bare_annotation(each)] or [ast.Pass()]
        return node


def _strip_block_annotations(node: Any) -> ast.AST:
    """Take the annotations off the variables of a block."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block:
            setattr(
                node, name, [_strip_annotation(each) for each in block if not _is_bare_annotation(each)] or [ast.Pass()]
            )
    if hasattr(node, "type_comment"):
        node.type_comment = None
    return cast(ast.AST, node)


def _strip_annotation(statement: ast.stmt) -> ast.stmt:
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return ast.Assign([statement.target], statement.value)
    if isinstance(statement, ast.Assign):
        statement.type_comment = None
    return statement


def _is_bare_annotation(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.AnnAssign) and statement.value is None


def _is_no_op(value: Any) -> bool:
    """Recognise docstrings and other lone constants, and `pass`."""
    return isinstance(value, ast.Pass) or (isinstance(value, ast.Expr) and isinstance(value.value, ast.Constant))


def _extract_imports(node: ast.AST) -> list[tuple[str, Import]]:
    """Take the plain imports out of a function's body, so that where an import stands does not matter."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    bound = list(_bound_names(node))
    used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    lifted = [
        each
        for each in node.body
        if isinstance(each, ast.Import | ast.ImportFrom)
        and all(bound.count(name) == 1 and name in used for name, _ in import_bindings(each))
    ]
    node.body = [each for each in node.body if each not in lifted] or [ast.Pass()]
    return [binding for each in lifted for binding in import_bindings(each)]


def _bound_names(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
            yield each.id
        elif isinstance(each, ast.arg):
            yield each.arg
        elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            yield each.name or ""
        elif isinstance(each, ast.Global | ast.Nonlocal):
            yield from each.names
        yield from (name for name, _ in import_bindings(each))


def _without_defaults(node: ast.AST) -> ast.AST:
    """Leave out the defaults of the function itself: they are known by value."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return node
    arguments = node.args
    bare = ast.arguments(
        arguments.posonlyargs, arguments.args, arguments.vararg, arguments.kwonlyargs, [], arguments.kwarg, []
    )
    fields = dict(ast.iter_fields(node)) | {"args": bare}
    return type(node)(**fields)
