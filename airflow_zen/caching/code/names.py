"""The names a piece of code refers to, and which of them come from outside it."""

from __future__ import annotations

import ast
import symtable
import textwrap

import msgspec


class Reference(msgspec.Struct, frozen=True):
    """A name, with the attributes read from it; `has_argument` when it is called with an argument that is not None."""

    chain: tuple[str, ...]
    has_argument: bool = False


def decorator_chain(decorator: ast.expr) -> tuple[str, ...] | None:
    """Give the dotted name of a decorator, called or not."""
    while isinstance(decorator, ast.Call):
        decorator = decorator.func
    return ReferenceCollector().chain(decorator)


def parameter_references(node: ast.AST) -> tuple[Reference, ...]:
    """Give every name in the annotations of a function's parameters, quoted ones too."""
    arguments = node.args if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None
    annotations = [each.annotation for each in declared_parameters(arguments) if each.annotation] if arguments else []
    return tuple(reference for each in annotations for reference in collect_references(_parse_string_annotation(each)))


def _parse_string_annotation(annotation: ast.expr) -> ast.expr:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return annotation
    return annotation


def collect_references(expression: ast.AST) -> list[Reference]:
    """Give every name an expression refers to, in order."""
    found = ReferenceCollector()
    found.visit(expression)
    return sorted(found.references, key=lambda one: one.chain)


def external_names(text: str, free: tuple[str, ...]) -> set[str]:
    """Ask Python's own compiler which names come from outside the text."""
    if free:
        text = f"def _({', '.join(free)}):\n" + textwrap.indent(text, " ")
    tables = [symtable.symtable(text, "<code>", "exec")]
    names = set(free)
    while tables:
        table = tables.pop()
        names |= {one.get_name() for one in table.get_symbols() if one.is_referenced() and _is_external(one, table)}
        tables.extend(table.get_children())
    return names


def _is_external(symbol: symtable.Symbol, table: symtable.SymbolTable) -> bool:
    return symbol.is_global() or (table.get_type() == "module" and not symbol.is_assigned())


def declared_parameters(arguments: ast.arguments) -> list[ast.arg]:
    """Give every parameter a function declares."""
    starred = [each for each in (arguments.vararg, arguments.kwarg) if each]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]


def last_name(node: ast.expr) -> str:
    """Give the last name of `a`, `m.a`, `a(...)`."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class ReferenceCollector(ast.NodeVisitor):
    """Collect names with the attributes read from them."""

    def __init__(self) -> None:
        self.references: set[Reference] = set()
        self.globals: set[str] = set()
        self.modules: set[str] = set()
        self.class_name = ""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Take what a class refers to; `__name` in it means `_Class__name`."""
        outer, self.class_name = self.class_name, node.name.lstrip("_")
        self.generic_visit(node)
        self.class_name = outer

    def _mangled(self, name: str) -> str:
        is_private = self.class_name and name.startswith("__") and not name.endswith("__")
        return f"_{self.class_name}{name}" if is_private else name

    def visit_Name(self, node: ast.Name) -> None:
        """Take a name that is read."""
        if isinstance(node.ctx, ast.Load):
            self.references.add(Reference((self._mangled(node.id),)))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Take a name that is read and written."""
        if isinstance(node.target, ast.Name):
            self.references.add(Reference((self._mangled(node.target.id),)))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Take a name with the attributes read from it."""
        chain = self.chain(node)
        if chain:
            self.references.add(Reference(chain))
        else:
            self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Take `globals()["name"]` as that name."""
        chain = self.chain(node)
        if chain:
            self.references.add(Reference(chain))
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Take what is called, with whether it is given an argument."""
        chain = self.chain(node)
        if chain:
            self.references.add(Reference(chain))
            return
        called = self.chain(node.func)
        if called is None:
            self.visit(node.func)
        elif called[-1] in ("import_module", "__import__") and _string_argument(node, 0):
            self.modules.add(_string_argument(node, 0))
        else:
            self.references.add(Reference(called, _has_argument(node)))
        for each in (*node.args, *node.keywords):
            self.visit(each)

    def chain(self, node: ast.AST) -> tuple[str, ...] | None:
        """Read `a.b.c`, `getattr(a, "b").c` and `globals()["a"].b` as names."""
        if isinstance(node, ast.Name):
            return (self._mangled(node.id),)
        if isinstance(node, ast.Attribute):
            above = self.chain(node.value)
            return (*above, self._mangled(node.attr)) if above else None
        if isinstance(node, ast.Call) and last_name(node.func) == "getattr" and len(node.args) == 2:
            above, name = self.chain(node.args[0]), _string_argument(node, 1)
            return (*above, name) if above and name else None
        return self._globals_subscript(node)

    def _globals_subscript(self, node: ast.AST) -> tuple[str, ...] | None:
        if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
            return None
        if not (isinstance(node.value, ast.Call) and last_name(node.value.func) == "globals"):
            return None
        self.globals.add(str(node.slice.value))
        return (str(node.slice.value),)


def _string_argument(node: ast.Call, position: int) -> str:
    given = node.args[position] if len(node.args) > position else None
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else ""


def _has_argument(node: ast.Call) -> bool:
    values = [*node.args, *(each.value for each in node.keywords)]
    return any(not (isinstance(each, ast.Constant) and each.value is None) for each in values)
