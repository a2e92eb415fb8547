"""The names that expressions of a syntax tree bind and read."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

from airflow_zen.caching.code.summary import (
    REFLECTION,
    BindingScope,
    Import,
    Reference,
    constant_text,
    query_names,
    split_name,
)

# Whether a name is read or written follows from its place.
_SKIPPED_FIELDS = ("ctx", "kind", "type_comment", "type_ignores")
_LITERALS = (ast.Constant, ast.Name)
_BLOCKS = frozenset({"body", "orelse", "finalbody"})
_TYPE_PARAMETERS = [vars(ast)[name] for name in ("TypeVar", "ParamSpec", "TypeVarTuple") if name in vars(ast)]
_REFLECTIVE = {"__subclasses__", "__globals__", "f_globals", "f_back"}
# Names in the text of a query: `@LIMIT` of pandas, tables of SQL, and all in what `eval` computes. Compiled when one is met.
_TABLE_NAME = r"\b(?i:from|join)\s+([A-Za-z_]\w*)"
_ANY_NAME = r"(?<![\w.@])[A-Za-z_][\w.]*"
_NAMES_IN_CALLS = {
    **dict.fromkeys(("eval", "evaluate"), _ANY_NAME),
    **dict.fromkeys(("execute", "query", "sql"), _TABLE_NAME),
}
_SPECIAL_CALLS = {"getattr", *_NAMES_IN_CALLS}


def import_bindings(node: ast.AST) -> Iterator[tuple[str, Import]]:
    """Yield the names that an import statement binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top, _, below = alias.name.partition(".")
            if alias.asname:
                yield alias.asname, Import(alias.name)
            else:
                yield top, Import(top, loads=alias.name if below else "")
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, Import(node.module or "", alias.name, node.level)


def last_name(node: Any) -> str:
    """Return the last name of `a`, `m.a`, `a(...)`."""
    while node.__class__ is ast.Call:
        node = node.func
    if node.__class__ is ast.Attribute:
        return node.attr
    return node.id if node.__class__ is ast.Name else ""


def dotted_name(node: Any) -> list[str]:
    """Return the names of `a.b.c`; none for any other expression."""
    if node.__class__ is ast.Name:
        return [node.id]
    names = []
    while node.__class__ is ast.Attribute:
        names.append(node.attr)
        node = node.value
    if node.__class__ is not ast.Name:
        return []
    names.append(node.id)
    names.reverse()
    return names


def constant_string(node: ast.AST) -> str:
    """Return the text of a string; empty for any other expression."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def global_name(node: ast.AST) -> str:
    """Return the name in `globals()["name"]`."""
    is_lookup = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call)
    return constant_string(node.slice) if is_lookup and last_name(node.value) == "globals" else ""  # type: ignore[attr-defined]


def names_in_arguments(node: ast.Call) -> Iterator[tuple[str, ...]]:
    """Yield the names in texts that a call such as `pandas.eval("a + LIMIT")` or `polars.sql("select …")` runs."""
    if pattern := _NAMES_IN_CALLS.get(last_name(node)):
        for each in chain(*map(ast.walk, (*node.args, *node.keywords))):
            yield from map(split_name, re.findall(pattern, constant_string(each)))


def _arguments(node: ast.Call) -> tuple[bool, tuple[str, ...]]:
    """Return whether a call has an argument other than None, and its arguments that may name a module or attribute."""
    values: list[Any] = [*node.args, *[each.value for each in node.keywords]] if node.keywords else node.args
    if not values:
        return False, ()
    has_argument = any(each.__class__ is not ast.Constant or each.value is not None for each in values)
    if not any(literals := [literal_name(each) if each.__class__ in _LITERALS else "" for each in values]):
        return has_argument, ()
    prefixes = [""] * len(node.args) + [f"{each.arg}=" if each.arg else "" for each in node.keywords]
    return has_argument, tuple(map(operator.add, prefixes, literals))


def literal_name(node: Any) -> str:
    """Return the dotted name that a string holds, or `__name__` or `__package__`; empty for any other expression."""
    if node.__class__ is ast.Name:
        return node.id if node.id in ("__name__", "__package__") else ""
    text = constant_string(node) if node.__class__ is ast.Constant else None
    if not text:
        return ""
    is_name = len(text) < 200 and text.lstrip(".:").replace(".", "_").replace(":", "_").isidentifier()
    return text if is_name else ""


def _module_of_names(node: ast.expr) -> ast.expr | None:
    """Return `m` of `m.__dict__` and of `vars(m)`."""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return node.value
    is_vars = isinstance(node, ast.Call) and last_name(node) == "vars" and len(node.args) == 1
    return node.args[0] if is_vars else None  # type: ignore[attr-defined]


def _visit_value(visitor: Any, value: object) -> None:
    visitor.tokens.append(str(value))


class Visitors(dict[type, Callable[[Any, Any], None]]):
    """The function that visits a node, or a plain value in a field, by its class."""

    def __missing__(self, cls: type) -> Callable[[Any, Any], None]:
        """Return the function that visits a node by its fields, or a value as text."""
        self[cls] = found = fields_visitor(cls) if issubclass(cls, ast.AST) else _visit_value  # type: ignore[arg-type]  # classes hash
        return found


@cache
def fields_visitor(cls: Any) -> Callable[[Any, Any], None]:
    """Return a function that adds a node of a class by its fields."""
    node_name, fields = cls.__name__, [name for name in cls._fields if name not in _SKIPPED_FIELDS]
    if not fields:
        return lambda visitor, node: visitor.tokens.append(node_name)
    if len(fields) > 1 and _BLOCKS.isdisjoint(fields):
        return _expression_visitor(node_name, operator.attrgetter(*fields))

    def visit(visitor: ExpressionVisitor, node: ast.AST) -> None:
        visitor.tokens.append(node_name)
        for name in fields:
            value = getattr(node, name)
            if name in _BLOCKS and value.__class__ is list:
                visitor.visit_block(value)
            else:
                visitor.visitors[value.__class__](visitor, value)

    return visit


def _expression_visitor(node_name: str, values_of: Callable[[Any], Iterable[Any]]) -> Callable[[Any, Any], None]:
    """Return a function that adds a node without blocks, several times as often as one with them is added."""

    def visit(visitor: ExpressionVisitor, node: ast.AST) -> None:
        visitor.tokens.append(node_name)
        visitors = visitor.visitors
        for value in values_of(node):
            visitors[value.__class__](visitor, value)

    return visit


class ExpressionVisitor:
    """Collects tokens, which are equal for equal code, and the references of each scope."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.scope = BindingScope("module")
        self.class_name = ""

    def visit(self, node: ast.AST) -> None:
        """Add the tokens and names of a node."""
        self.visitors[node.__class__](self, node)

    def visit_fields(self, node: ast.AST) -> None:
        """Add a node by its fields."""
        fields_visitor(node.__class__)(self, node)  # type: ignore[arg-type]

    def visit_list(self, values: Sequence[Any]) -> None:
        """Add nodes and names, with their number."""
        self.tokens.append(f"[{len(values)}")
        visitors = self.visitors
        for each in values:
            visitors[each.__class__](self, each)

    visit_block = visit_list

    def _visit_constant(self, node: ast.Constant) -> None:
        value = node.value
        self.tokens.append(f"str {value!r}" if value.__class__ is str else constant_text(value))
        if value.__class__ is str and "@" in value:
            for name in query_names(value):
                self.scope.read(Reference(name))

    def _visit_name(self, node: ast.Name) -> None:
        name, scope = node.id, self.scope
        self.tokens.append("." + name)
        if name[:2] == "__":
            name = self.mangled(name)
        if node.ctx.__class__ is not ast.Load:
            scope.bound[name] = scope.bound.get(name, 0) + 1
        elif name not in scope.names or scope.kind == "class":
            scope.read_name(name)

    def _visit_aug_assign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.scope.read_name(self.mangled(node.target.id))
        self.visit_fields(node)

    def _visit_attribute(self, node: ast.Attribute) -> None:
        if names := dotted_name(node):
            self._read_names(names, Reference(self._mangled(names)))
        elif chain := self.chain(node):
            self._read_chain(node, Reference(chain))
        else:
            self._note_reflection((node.attr,))
            self.tokens += "Attribute", node.attr
            self.visit(node.value)

    def _visit_subscript(self, node: ast.Subscript) -> None:
        if node.slice.__class__ is ast.Constant and (chain := self.chain(node)):
            self._read_chain(node, Reference(chain))
        elif last_name(node.value) == "modules" and (above := self.chain(node.value)):
            self.tokens.append("Subscript")
            self._read_chain(node.value, Reference(above, strings=(literal_name(node.slice),)))
            self.visit(node.slice)
        else:
            self.visit_fields(node)

    def _visit_call(self, node: ast.Call) -> None:
        names = dotted_name(node.func)
        if names and names[-1] not in _SPECIAL_CALLS:
            self.tokens.append("Call")
            self._read_names(names, Reference(self._mangled(names), *_arguments(node), is_called=True))
            self.visit_list(node.args)
            self.visit_list(node.keywords)
            return
        for found in names_in_arguments(node):
            self.scope.read(Reference(found))
        if len(node.args) == 2 and (chain := self.chain(node)):
            self._read_chain(node, Reference(chain))
        elif called := self.chain(node.func):
            self.tokens.append("Call")
            self._read_chain(node.func, Reference(called, *_arguments(node), is_called=True))
            self.visit_list(node.args)
            self.visit_list(node.keywords)
        else:
            self.visit_fields(node)

    def _note_reflection(self, names: Iterable[str]) -> None:
        if not _REFLECTIVE.isdisjoint(names):
            self.scope.passed += [Reference((REFLECTION, name)) for name in names if name in _REFLECTIVE]

    def _read_names(self, names: list[str], reference: Reference) -> None:
        if not _REFLECTIVE.isdisjoint(names):
            self._note_reflection(names)
        self.tokens.append("." + ".".join(names))
        self.scope.read(reference)

    def _read_chain(self, node: ast.AST, reference: Reference) -> None:
        """Add the tokens of a chain, whose names are one reference."""
        if names := dotted_name(node):
            self._read_names(names, reference)
            return
        self._note_reflection(reference.chain)
        while isinstance(node, ast.Attribute):
            names.insert(0, f".{node.attr}")
            node = node.value
        self.tokens.append(f"in{''.join(names)}")
        scope, self.scope = self.scope, BindingScope("chain")
        self.visit_fields(node)
        self.scope = scope
        scope.passed.append(reference) if global_name(node) else scope.read(reference)

    def chain(self, node: ast.AST) -> tuple[str, ...] | None:
        """Return the names of `a.b.c`, `getattr(a, "b").c` and `globals()["a"].b`."""
        if names := dotted_name(node):
            return self._mangled(names)
        below: list[str] = []
        while isinstance(node, ast.Attribute):
            below.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Call):
            return self._chain_of_call(node, self._mangled(below))
        return self._chain_of_subscript(node, self._mangled(below)) if isinstance(node, ast.Subscript) else None

    def _mangled(self, names: list[str]) -> tuple[str, ...]:
        return tuple(map(self.mangled, names)) if self.class_name else tuple(names)

    def _chain_of_call(self, node: ast.Call, below: tuple[str, ...]) -> tuple[str, ...] | None:
        if len(node.args) != 2 or last_name(node.func) != "getattr":
            return None
        above, name = self.chain(node.args[0]), constant_string(node.args[1])
        return (*above, name, *below) if above and name else None

    def _chain_of_subscript(self, node: ast.Subscript, below: tuple[str, ...]) -> tuple[str, ...] | None:
        if not (name := constant_string(node.slice)):
            return None
        above = self.chain(module) if (module := _module_of_names(node.value)) else None
        return (*above, name, *below) if above else (name, *below) if global_name(node) else None

    def mangled(self, name: str) -> str:
        """Return the name that `__name` has inside a class."""
        is_private = self.class_name and name.startswith("__") and not name.endswith("__")
        return f"_{self.class_name}{name}" if is_private else name

    def _visit_global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.visit_fields(node)
        self.scope.outside.update(map(self.mangled, node.names))

    def _visit_binding(self, node: ast.AST) -> None:
        """Bind the name that a handler, a pattern or a type parameter binds."""
        self.visit_fields(node)
        name = getattr(node, "rest", None) or getattr(node, "name", None)
        if isinstance(name, str):
            self.scope.bind(name)

    def _visit_import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.visit_fields(node)
        for name, imported in import_bindings(node):
            self.scope.bind(name)
            self.scope.imports.setdefault(name, []).append(imported)

    def _visit_named_expr(self, node: ast.NamedExpr) -> None:
        self.visit_fields(node)
        if self.scope.kind == "comprehension":
            # The name belongs to the function around it.
            name = self.mangled(node.target.id)
            self.scope.bound.pop(name, None)
            self.scope.walrus.add(name)

    def _visit_comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.tokens.append(node.__class__.__name__)
        first, *others = node.generators
        self.visit(first.iter)  # outside of the comprehension
        outer, self.scope = self.scope, BindingScope("comprehension")
        self.tokens.append(str(first.is_async))
        self.visit(first.target)
        self.visit_list(first.ifs)
        self.visit_list(others)
        self.visit_list([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        for name in self.scope.walrus:
            outer.walrus.add(name) if outer.kind == "comprehension" else outer.bind(name)
        self.leave(outer)

    def leave(self, outer: BindingScope) -> list[Reference]:
        """Return to the scope around this one, which takes over the references to what is defined elsewhere."""
        escaping, passed = self.scope.close(), self.scope.passed
        outer.loads += escaping
        outer.passed += passed
        self.scope = outer
        return escaping + passed

    visitors = Visitors(
        {
            list: visit_list,
            ast.Constant: _visit_constant,
            ast.Name: _visit_name,
            ast.AugAssign: _visit_aug_assign,
            ast.Attribute: _visit_attribute,
            ast.Subscript: _visit_subscript,
            ast.Call: _visit_call,
            ast.NamedExpr: _visit_named_expr,
            **dict.fromkeys((ast.Global, ast.Nonlocal), _visit_global),
            **dict.fromkeys((ast.Import, ast.ImportFrom), _visit_import),
            **dict.fromkeys((ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp), _visit_comprehension),
            # Handlers, patterns and type parameters bind a name that is no node of its own.
            **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping), _visit_binding),
            **dict.fromkeys(_TYPE_PARAMETERS, _visit_binding),
        }
    )
