"""The names a piece of code refers to, and which of them come from outside it."""

from __future__ import annotations

import ast
import symtable
import textwrap

import msgspec


class Reference(msgspec.Struct, frozen=True):
    """A name, with the attributes read from it; `argued` when it is called with an argument that is not None."""

    chain: tuple[str, ...]
    argued: bool = False


def decorator_chain(decorator: ast.expr) -> tuple[str, ...] | None:
    """Give the dotted name of a decorator, called or not."""
    while isinstance(decorator, ast.Call):
        decorator = decorator.func
    return References().chain(decorator)


def parameter_references(node: ast.AST) -> tuple[Reference, ...]:
    """Give every name in the annotations of a function's parameters, quoted ones too."""
    arguments = node.args if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None
    annotations = [each.annotation for each in arguments_of(arguments) if each.annotation] if arguments else []
    return tuple(reference for each in annotations for reference in references_of(_unquoted(each)))


def _unquoted(annotation: ast.expr) -> ast.expr:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return annotation
    return annotation


def references_of(expression: ast.AST) -> list[Reference]:
    """Give every name an expression refers to, in order."""
    found = References()
    found.visit(expression)
    return sorted(found.references, key=lambda one: one.chain)


def outside_names(text: str, free: tuple[str, ...]) -> set[str]:
    """Ask Python's own compiler which names come from outside the text."""
    if free:
        text = f"def _({', '.join(free)}):\n" + textwrap.indent(text, " ")
    tables = [symtable.symtable(text, "<code>", "exec")]
    names = set(free)
    while tables:
        table = tables.pop()
        names |= {one.get_name() for one in table.get_symbols() if one.is_referenced() and _is_outside(one, table)}
        tables.extend(table.get_children())
    return names


def _is_outside(symbol: symtable.Symbol, table: symtable.SymbolTable) -> bool:
    return symbol.is_global() or (table.get_type() == "module" and not symbol.is_assigned())


def arguments_of(arguments: ast.arguments) -> list[ast.arg]:
    """Give every parameter a function declares."""
    starred = [each for each in (arguments.vararg, arguments.kwarg) if each]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]


def last_name(node: ast.expr) -> str:
    """Give the last name of `a`, `m.a`, `a(...)`."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class References(ast.NodeVisitor):
    """Collect names with the attributes read from them."""

    def __init__(self) -> None:
        self.references: set[Reference] = set()
        self.globals: set[str] = set()
        self.modules: set[str] = set()
        self.inside = ""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Take what a class refers to; `__name` in it means `_Class__name`."""
        outer, self.inside = self.inside, node.name.lstrip("_")
        self.generic_visit(node)
        self.inside = outer

    def _mangled(self, name: str) -> str:
        is_private = self.inside and name.startswith("__") and not name.endswith("__")
        return f"_{self.inside}{name}" if is_private else name

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
        elif called[-1] in ("import_module", "__import__") and _text_argument(node, 0):
            self.modules.add(_text_argument(node, 0))
        else:
            self.references.add(Reference(called, _is_argued(node)))
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
            above, name = self.chain(node.args[0]), _text_argument(node, 1)
            return (*above, name) if above and name else None
        return self._global(node)

    def _global(self, node: ast.AST) -> tuple[str, ...] | None:
        if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
            return None
        if not (isinstance(node.value, ast.Call) and last_name(node.value.func) == "globals"):
            return None
        self.globals.add(str(node.slice.value))
        return (str(node.slice.value),)


def _text_argument(node: ast.Call, position: int) -> str:
    given = node.args[position] if len(node.args) > position else None
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else ""


def _is_argued(node: ast.Call) -> bool:
    values = [*node.args, *(each.value for each in node.keywords)]
    return any(not (isinstance(each, ast.Constant) and each.value is None) for each in values)
