"""The names that statements bind and read, from which the statements that a function needs are determined."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from airflow_zen.caching.code.expressions import constant_string, global_name, import_bindings, last_name
from airflow_zen.caching.code.summary import query_names
from airflow_zen.steps.spec import Position

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Calls that look names up in their text.
_EVALUATORS = {"eval", "evaluate", "execute", "query", "sql"}
_BLOCKS = (ast.If, ast.Try, ast.With, ast.AsyncWith, ast.For, ast.AsyncFor, ast.While, ast.Match)


def own_statements(node: Any) -> Iterator[ast.stmt]:
    """Yield the statements in a body and in its blocks, not those in definitions within."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for each in getattr(node, field, ()):
            if isinstance(each, ast.stmt):
                yield each
            if not isinstance(each, DEFINITIONS):
                yield from own_statements(each)


def bound_names(node: ast.stmt) -> set[str]:
    """Return the names that a statement, or one in its blocks, binds in the scope that it is in."""
    if isinstance(node, DEFINITIONS):
        return {node.name}
    found = {name for name, _ in import_bindings(node)}
    for inner in own_statements(node):
        found |= bound_names(inner)
    if isinstance(node, _BLOCKS):
        heads = (each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr | ast.withitem))
        stored = [name for head in heads for name in ast.walk(head)]
    else:
        stored = [*ast.walk(node)]
    return found | {each.id for each in stored if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}


def read_names(node: ast.AST, left_out: Collection[Position]) -> set[str]:
    """Return the names of the module that a statement reads, also when functions in it are called later.

    Expressions that begin at a position in `left_out` read nothing.
    """
    if isinstance(node, ast.expr) and position(node) in left_out:
        return set()
    found = _named_by(node)
    for annotation in annotations_of(node):
        for quoted in _quoted(annotation) if position(annotation) not in left_out else ():
            found |= read_names(quoted, left_out)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        body = node.body if isinstance(node.body, list) else [node.body]
        inner = set[str]().union(*(read_names(each, left_out) for each in body)) - _local_names(node)
        outside = (each for each in ast.iter_child_nodes(node) if each not in body)
        return found.union(inner, *(read_names(each, left_out) for each in outside))
    return found.union(*(read_names(each, left_out) for each in ast.iter_child_nodes(node)))


def _named_by(node: ast.AST) -> set[str]:
    """Return the names that a node itself reads, including those in texts that a library evaluates."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return {node.id}
    if isinstance(node, ast.Constant):
        return {chain[0] for chain in query_names(node.value)}
    if isinstance(node, ast.Call) and last_name(node) in _EVALUATORS:
        return {name for each in ast.walk(node) for name in re.findall(r"[A-Za-z_]\w*", constant_string(each))}
    return {name} if (name := global_name(node)) else set()


def _local_names(function: Any) -> set[str]:
    """Return the local names of a function: those it binds, except those declared global or nonlocal."""
    found = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    outer = set[str]()
    body = function.body if isinstance(function.body, list) else [function.body]
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        found |= {name for name, _ in import_bindings(node)}
        if isinstance(node, DEFINITIONS):
            found.add(node.name)
            continue
        if isinstance(node, ast.Global | ast.Nonlocal):
            outer |= set(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        pending += [] if isinstance(node, ast.Lambda) else ast.iter_child_nodes(node)
    return found - outer


def annotations_of(node: ast.AST) -> list[ast.expr]:
    """Return the annotation of a parameter or variable, or of what a function returns."""
    held = getattr(node, "annotation", None), getattr(node, "returns", None)
    return [each for each in held if isinstance(each, ast.expr)]


def _quoted(annotation: ast.expr) -> Iterator[ast.AST]:
    for each in ast.walk(annotation):
        if text := constant_string(each):
            with suppress(SyntaxError):
                yield ast.parse(text, mode="eval").body


def is_future(node: ast.AST) -> bool:
    """Whether a statement is a future statement."""
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def root_name(node: ast.AST) -> str:
    """Return `a` of `a.b[0].c()`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def position(node: Any) -> Position:
    """Return the line and column where a node begins."""
    return node.lineno, node.col_offset
