"""Reads of the task run's context by constant names: `context["params"]["depth"]`, `context["dag_run"].conf`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from types import FunctionType
from typing import Any, NamedTuple, NoReturn

from airflow_zen.caching.code.calls import check_path
from airflow_zen.caching.code.expressions import constant_string, dotted_name
from airflow_zen.caching.code.source import function_definition
from airflow_zen.errors import FingerprintError

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_NAMESPACES = {"eval", "exec", "locals", "vars"}
# Values of these ask Airflow when they are read.
_LAZY_PACKAGE = "airflow.sdk.execution_time."


class Member(NamedTuple):
    """One step from a value to a part of it: an item by its key, or an attribute."""

    name: str
    is_attribute: bool = False


# From the context to what is read, such as `params`, `depth`.
ContextPath = tuple[Member, ...]


def context_reads(text: str, getters: Collection[tuple[str, ...]]) -> frozenset[ContextPath]:
    """Return the reads of contexts in a text; `getters` are the names of `get_current_context` there.

    Raises `FingerprintError` for any other use of a context.
    """
    try:
        reader = _Reader(ast.parse(text))
    except SyntaxError:
        _refuse("in a statement that cannot be read by itself")
    reads = frozenset(reader.reads_of_calls(getters))
    for path in reads:
        check_path(".".join(["airflow.context", *(member.name for member in path)]))
    return reads


def keyword_reads(function: Callable[..., Any]) -> frozenset[ContextPath]:
    """Return the reads of a function's parameter `**context`; raise `FingerprintError` for any other use."""
    names = [each.name for each in inspect.signature(function).parameters.values() if each.kind is each.VAR_KEYWORD]
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        _refuse("in a function that a decorator wraps")
    source, definition = function_definition(function)
    tree = ast.parse(source.text_of(definition))
    outermost = tree.body[0]
    if not isinstance(outermost, ast.FunctionDef | ast.AsyncFunctionDef):
        _refuse("in a lambda")
    return frozenset(_Reader(tree).reads_of_name(names[0], outermost, ()))


class _Reader:
    """Finds the uses of a value in a syntax tree in which each node knows its parent."""

    def __init__(self, tree: ast.AST) -> None:
        self._nodes = list(ast.walk(tree))
        self._around = {inner: node for node in self._nodes for inner in ast.iter_child_nodes(node)}

    def reads_of_calls(self, getters: Collection[tuple[str, ...]]) -> Iterator[ContextPath]:
        """Yield what is read of the results of calls."""
        named = [node for node in self._nodes if tuple(dotted_name(node)) in getters]
        last_names = {each[-1] for each in getters}
        if not named or not last_names.isdisjoint(map(constant_string, self._nodes)):
            _refuse("by a name in a text")
        calls = [self._around[node] for node in named]
        for node, call in zip(named, calls, strict=True):
            if not isinstance(call, ast.Call) or call.func is not node or call.args or call.keywords:
                _refuse("without a call")
            yield from self._reads(call, calls)

    def reads_of_name(self, name: str, function: ast.AST, calls: Collection[ast.AST]) -> Iterator[ContextPath]:
        """Yield what is read of a name in a function, and in those inside it; `calls` are what may be assigned to it."""
        for node in ast.walk(function):
            if isinstance(node, ast.Global | ast.Nonlocal) and name in node.names:
                _refuse("in a global variable")
            if not isinstance(node, ast.Name):
                continue
            if node.id in _NAMESPACES:
                _refuse(f"by {node.id}()")
            if node.id == name and isinstance(node.ctx, ast.Load):
                yield self._path(node)
            elif node.id == name and getattr(self._around[node], "value", None) not in calls:
                _refuse(f"in {name!r}, which is bound again")

    def _reads(self, call: ast.AST, calls: Collection[ast.AST]) -> Iterator[ContextPath]:
        """Yield what is read of a context where it is returned, or of the variable that it is assigned to."""
        target = _target(self._around[call])
        if target is None:
            yield self._path(call)
        else:
            function = self._around[call]
            while not isinstance(function, (*_FUNCTIONS, ast.ClassDef, ast.Module)):
                function = self._around[function]
            if not isinstance(function, _FUNCTIONS):
                _refuse("outside of a function")
            yield from self.reads_of_name(target, function, calls)

    def _path(self, node: ast.AST) -> ContextPath:
        """Return the members that are read in sequence, beginning with an item of the context."""
        path: list[Member] = []
        while found := self._member(node):
            node, member = found
            path.append(member)
        if not path or path[0].is_attribute:
            _refuse("as a whole, or by a computed name")
        return tuple(path)

    def _member(self, node: ast.AST) -> tuple[ast.AST, Member] | None:
        """Return the expression that reads a constant member of a node, and the member."""
        outer = self._around.get(node)
        if isinstance(outer, ast.Subscript) and outer.value is node and isinstance(outer.ctx, ast.Load):
            return (outer, Member(outer.slice.value)) if constant_string(outer.slice) else None  # type: ignore[attr-defined]
        if not (isinstance(outer, ast.Attribute) and outer.value is node and isinstance(outer.ctx, ast.Load)):
            return None
        call = self._around[outer]
        if outer.attr == "get" and isinstance(call, ast.Call) and call.func is outer:
            name = constant_string(call.args[0]) if call.args else ""
            return (call, Member(name)) if name else None
        return outer, Member(outer.attr, is_attribute=True)


def context_value(context: Mapping[str, Any], path: ContextPath) -> tuple[str, Any]:
    """Return a label and the value of a path: `params.depth` and 8.

    For a part of a plain value, it is the whole value; `...` if it does not exist. Raises `FingerprintError` for a
    value that is not plain.
    """
    value: Any = context
    names: list[str] = []
    for name, is_attribute in path:
        if _is_mapping(value) and not is_attribute:
            value = value.get(name, ...)
        elif is_attribute and _is_of_airflow(value) and name in getattr(value, "__pydantic_fields__", ()):
            value = getattr(value, name)
        else:
            break
        names.append(name)
    if _is_of_airflow(value) and not (_is_mapping(value) or isinstance(value, Enum)):
        _refuse(f"for {'.'.join(each.name for each in path)}, which is no plain value")
    return ".".join(names), value


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and not type(value).__module__.startswith(_LAZY_PACKAGE)


def _is_of_airflow(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "airflow"


def _target(node: ast.AST) -> str | None:
    """Return the only variable that an assignment binds; None for any other node."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None


def _refuse(how: str) -> NoReturn:
    raise FingerprintError(
        f"The step's code uses the task run's context {how}, so that not all it reads is in the key. Read its members by "
        'constant names, as in context["params"]["depth"], in the function that gets it; or take them as parameters of the '
        "step's function: Airflow fills in those named ds, params, logical_date and so on. Or set cache=False."
    )
