"""What the expressions of a syntax tree bind, read and name."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from airflow_zen.caching.code.summary import REFLECTION, Import, Reference, constant_text, query_names, split_name

_BLOCKS = ("body", "orelse", "finalbody")
# Whether a name is read or written follows from its place.
_SKIPPED_FIELDS = ("ctx", "kind", "type_comment", "type_ignores")
_FIELDS = {
    node: tuple(name for name in node._fields if name not in _SKIPPED_FIELDS)
    for node in vars(ast).values()
    if isinstance(node, type) and issubclass(node, ast.AST)
}
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
# Handlers, patterns and type parameters bind a name that is no node of its own.
_BINDING_NODES = [
    vars(ast)[name]
    for name in ("ExceptHandler", "MatchAs", "MatchStar", "MatchMapping", "TypeVar", "ParamSpec", "TypeVarTuple")
    if name in vars(ast)
]
_LITERALS = (ast.Constant, ast.Name)
_REFLECTIVE = {"__subclasses__", "__globals__", "f_globals", "f_back"}
# Names in the text of a query: `@LIMIT` of pandas, tables of SQL, and all in what `eval` computes.
_TABLE_NAME = re.compile(r"\b(?:from|join)\s+([A-Za-z_]\w*)", re.IGNORECASE)
_ANY_NAME = re.compile(r"(?<![\w.@])[A-Za-z_][\w.]*")
_NAMES_IN_CALLS = {
    **dict.fromkeys(("eval", "evaluate"), _ANY_NAME),
    **dict.fromkeys(("execute", "query", "sql"), _TABLE_NAME),
}
_DOTTED_NAME = re.compile(r"\.*[A-Za-z_][\w.:]{0,200}")


class BindingScope:
    """The names that a function, class or module binds, and the references in it.

    `loads` are looked up in the scopes around it, `passed` come from outside of all of them.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.bound: dict[str, int] = {}
        self.outside: set[str] = set()
        self.walrus: set[str] = set()
        self.imports: dict[str, list[Import]] = {}
        self.names: set[str] = set()
        self.loads: list[Reference] = []
        self.passed: list[Reference] = []

    def bind(self, name: str) -> None:
        """Add a name that the scope binds."""
        self.bound[name] = self.bound.get(name, 0) + 1

    def read_name(self, name: str) -> None:
        """Add a plain name, once."""
        if name not in self.names or self.kind == "class":
            self.names.add(name)
            self.read(Reference((name,)))

    def read(self, reference: Reference) -> None:
        """Add a reference; a class body has only what it has bound so far."""
        if self.kind == "class" and reference.chain[0] in self.bound:
            self._add_imported(reference)
        else:
            self.loads.append(reference)

    def _add_imported(self, reference: Reference) -> None:
        if found := self.imports.get(reference.chain[0]):
            self.passed.append(msgspec.structs.replace(reference, imports=tuple(found)))

    def close(self) -> list[Reference]:
        """Return the references that are looked up in the scope around this one."""
        if self.kind == "class":
            return self.loads
        escaping = []
        for reference in self.loads:
            name = reference.chain[0]
            if name not in self.bound or name in self.outside:
                escaping.append(reference)
            else:
                self._add_imported(reference)
        return escaping


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


def last_name(node: ast.expr) -> str:
    """Return the last name of `a`, `m.a`, `a(...)`."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def effect_target(node: ast.stmt) -> ast.expr | None:
    """Return what a statement calls, or sets an attribute or item of; None for any other."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return node.value.func
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    held = [each.value for each in targets if isinstance(each, ast.Attribute | ast.Subscript)]
    return held[0] if held and isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete) else None


def constant_string(node: ast.AST) -> str:
    """Return the text of a string; empty for any other expression."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def global_name(node: ast.AST) -> str:
    """Return the name in `globals()["name"]`."""
    is_lookup = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call)
    return constant_string(node.slice) if is_lookup and last_name(node.value) == "globals" else ""  # type: ignore[attr-defined]


def names_in_arguments(node: ast.Call) -> list[tuple[str, ...]]:
    """Return the names in texts that a call such as `pandas.eval("a + LIMIT")` or `polars.sql("select …")` runs."""
    pattern = _NAMES_IN_CALLS.get(last_name(node))
    if pattern is None:
        return []
    inside = (each for argument in (*node.args, *(kept.value for kept in node.keywords)) for each in ast.walk(argument))
    return [split_name(name) for each in inside for name in pattern.findall(constant_string(each))]


def _arguments(node: ast.Call) -> tuple[bool, tuple[str, ...]]:
    """Return whether a call has an argument other than None, and its arguments that may name a module or attribute."""
    has_argument, names, found = False, [], False
    for name, value in [*((None, each) for each in node.args), *((each.arg, each.value) for each in node.keywords)]:
        has_argument = has_argument or value.__class__ is not ast.Constant or value.value is not None
        literal = literal_name(value) if value.__class__ in _LITERALS else ""
        found = found or bool(literal)
        names.append(literal if name is None else f"{name}={literal}")
    return has_argument, tuple(names) if found else ()


def literal_name(node: ast.expr) -> str:
    """Return the dotted name that a string holds, or `__name__` or `__package__`; empty for any other expression."""
    if isinstance(node, ast.Name) and node.id in ("__name__", "__package__"):
        return node.id
    text = constant_string(node)
    return text if _DOTTED_NAME.fullmatch(text) else ""


def _module_of_names(node: ast.expr) -> ast.expr | None:
    """Return `m` of `m.__dict__` and of `vars(m)`."""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return node.value
    is_vars = isinstance(node, ast.Call) and last_name(node) == "vars" and len(node.args) == 1
    return node.args[0] if is_vars else None  # type: ignore[attr-defined]


class ExpressionVisitor:
    """Collects tokens, which are equal for equal code, and the references of each scope."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.scope = BindingScope("module")
        self.class_name = ""
        self.visitors: dict[type[ast.AST], Callable[[Any], None]] = {
            ast.Constant: self._visit_constant,
            ast.Name: self._visit_name,
            ast.AugAssign: self._visit_aug_assign,
            ast.Attribute: self._visit_attribute,
            ast.Subscript: self._visit_subscript,
            ast.Call: self._visit_call,
            ast.NamedExpr: self._visit_named_expr,
            ast.Global: self._visit_global,
            ast.Nonlocal: self._visit_global,
            ast.Import: self._visit_import,
            ast.ImportFrom: self._visit_import,
            **dict.fromkeys(_COMPREHENSIONS, self._visit_comprehension),
            **dict.fromkeys(_BINDING_NODES, self._visit_binding),
        }

    def visit(self, node: ast.AST) -> None:
        """Add the tokens and names of a node."""
        self.visitors.get(node.__class__, self.visit_fields)(node)

    def visit_fields(self, node: ast.AST) -> None:
        """Add a node by its fields."""
        cls = node.__class__
        self.tokens.append(cls.__name__)
        for name in _FIELDS[cls]:
            value = getattr(node, name, None)
            if value.__class__ is not list:
                self._visit_value(value)
            elif name in _BLOCKS:
                self.visit_block(value)
            else:
                self.visit_list(value)

    def _visit_value(self, value: Any) -> None:
        cls = value.__class__
        if cls in self.visitors:
            self.visitors[cls](value)
        elif cls not in _FIELDS:
            self.tokens.append(str(value))
        elif _FIELDS[cls]:
            self.visit_fields(value)
        else:
            self.tokens.append(cls.__name__)

    def visit_list(self, values: Sequence[Any]) -> None:
        """Add nodes and names, with their number."""
        self.tokens.append(f"[{len(values)}")
        for each in values:
            self._visit_value(each)

    def visit_block(self, statements: Sequence[ast.stmt]) -> None:
        """Add statements."""
        self.visit_list(statements)

    def _visit_constant(self, node: ast.Constant) -> None:
        self.tokens.append(constant_text(node.value))
        for chain in query_names(node.value):
            self.scope.read(Reference(chain))

    def _visit_name(self, node: ast.Name) -> None:
        self.tokens.append(f".{node.id}")
        name = node.id if node.id[:2] != "__" else self.mangled(node.id)
        if node.ctx.__class__ is ast.Load:
            self.scope.read_name(name)
        else:
            self.scope.bind(name)

    def _visit_aug_assign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.scope.read_name(self.mangled(node.target.id))
        self.visit_fields(node)

    def _visit_attribute(self, node: ast.Attribute) -> None:
        if chain := self.chain(node):
            self._add_chain(node)
            self._read(node, Reference(chain))
        else:
            self._note_reflection((node.attr,))
            self.tokens += "Attribute", node.attr
            self.visit(node.value)

    def _visit_subscript(self, node: ast.Subscript) -> None:
        if chain := self.chain(node):
            self._add_chain(node)
            self._read(node, Reference(chain))
        elif last_name(node.value) == "modules" and (above := self.chain(node.value)):
            self.tokens.append("Subscript")
            self._add_chain(node.value)
            self.scope.read(Reference(above, strings=(literal_name(node.slice),)))
            self.visit(node.slice)
        else:
            self.visit_fields(node)

    def _visit_call(self, node: ast.Call) -> None:
        for found in names_in_arguments(node):
            self.scope.read(Reference(found))
        if len(node.args) == 2 and (chain := self.chain(node)):
            self._add_chain(node)
            self._read(node, Reference(chain))
        elif (called := self.chain(node.func)) is None:
            self.visit_fields(node)
        else:
            self.tokens.append("Call")
            self._add_chain(node.func)
            self._read(node.func, Reference(called, *_arguments(node), is_called=True))
            self.visit_list(node.args)
            self.visit_list(node.keywords)

    def _note_reflection(self, names: Iterable[str]) -> None:
        if not _REFLECTIVE.isdisjoint(names):
            self.scope.passed += [Reference((REFLECTION, name)) for name in names if name in _REFLECTIVE]

    def _read(self, node: ast.AST, reference: Reference) -> None:
        self._note_reflection(reference.chain)
        while isinstance(node, ast.Attribute):
            node = node.value
        if global_name(node):
            self.scope.passed.append(reference)
        else:
            self.scope.read(reference)

    def chain(self, node: ast.AST) -> tuple[str, ...] | None:
        """Return the names of `a.b.c`, `getattr(a, "b").c` and `globals()["a"].b`."""
        if node.__class__ is ast.Name:
            return (self.mangled(node.id),)
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, self.mangled(node.attr))
            node = node.value
        if isinstance(node, ast.Name):
            return (self.mangled(node.id), *names)
        if isinstance(node, ast.Call) and len(node.args) == 2 and last_name(node.func) == "getattr":
            above, name = self.chain(node.args[0]), constant_string(node.args[1])
            return (*above, name, *names) if above and name else None
        if isinstance(node, ast.Subscript) and (name := constant_string(node.slice)):
            above = self.chain(module) if (module := _module_of_names(node.value)) else None
            return (*above, name, *names) if above else (name, *names) if global_name(node) else None
        return None

    def _add_chain(self, node: ast.AST) -> None:
        """Add the tokens of a chain, whose names are one reference."""
        names = ""
        while isinstance(node, ast.Attribute):
            names = f".{node.attr}{names}"
            node = node.value
        if isinstance(node, ast.Name):
            self.tokens.append(f".{node.id}{names}")
            return
        self.tokens.append(f"in{names}")
        scope, self.scope = self.scope, BindingScope("chain")
        self.visit_fields(node)
        self.scope = scope

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
