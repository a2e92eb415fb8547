"""The visitor of a syntax tree that makes the summary of a file."""

from __future__ import annotations

import ast
import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from types import CodeType
from typing import Any

from airflow_zen.caching.code.expressions import (
    ExpressionVisitor,
    Visitors,
    constant_string,
    import_bindings,
    last_name,
)
from airflow_zen.caching.code.summary import (
    BindingScope,
    Decorator,
    Definition,
    Effect,
    Part,
    Reference,
    Summary,
    code_digest,
    constant_text,
)

# Decorators that never read the annotations of what they decorate.
_IGNORE_ANNOTATIONS = {
    "abstractmethod", "asynccontextmanager", "cache", "cached_property", "classmethod", "contextmanager",
    "deleter", "getter", "lru_cache", "property", "setter", "staticmethod", "wraps",
}  # fmt: skip
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.TryStar, ast.Match)
_NO_OPS = (ast.Expr, ast.AnnAssign, ast.Pass)
# No token contains it: names cannot, and constants are written by repr.
_SEPARATOR = "\x1f"


def summarize(text: str, flags: int = 0) -> Summary:
    """Return the summary of a text, which has no other input; `flags` are the compiler's, of future statements.

    Raises `SyntaxError` for text that cannot be compiled.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # A tree is thousands of objects, which are freed by their counts before the collector is on again.
    try:
        return _summarize(text, flags)
    finally:
        if was_enabled:
            gc.enable()


def _summarize(text: str, flags: int) -> Summary:
    tree = compile(text, "<summary>", "exec", ast.PyCF_ONLY_AST | flags, dont_inherit=True)
    found = _Summarizer(compile(tree, "<summary>", "exec", flags, dont_inherit=True))
    found.visit_block(tree.body)
    module = found.scope
    imports = {name: tuple(imports) for name, imports in module.imports.items()}
    rebound = frozenset(name for name, count in module.bound.items() if count > 1)
    code = _part(found.tokens, [*module.loads, *module.passed])
    return Summary(code, imports, tuple(found.definitions), rebound, tuple(found.effects))


class _Summarizer(ExpressionVisitor):
    """Walks a tree once, and collects tokens, which are equal for equal code, and the references of each scope."""

    def __init__(self, compiled: CodeType) -> None:
        super().__init__()
        self.definitions: list[Definition] = []
        self.effects: list[Effect] = []
        self.prefix = ""
        self.keeps_annotations = False
        self.literals: dict[str, str] = {}
        self.codes: dict[tuple[str, int], list[CodeType]] = defaultdict(list)
        for code in _nested_codes(compiled):
            self.codes[code.co_name, code.co_firstlineno].append(code)

    def visit_block(self, statements: Iterable[ast.stmt]) -> None:
        """Add statements, without those that do nothing."""
        kept = [each for each in statements if each.__class__ not in _NO_OPS or not self._is_no_op(each)]
        if self.scope.kind != "module":
            self.visit_list(kept)
            return
        self.tokens.append(f"[{len(kept)}")
        for each in kept:
            if (target := effect_target(each)) is None:
                self.visit(each)
            else:
                self.effects.append(Effect(self._capture([each]), self.chain(target) or ()))

    def _is_no_op(self, node: ast.stmt) -> bool:
        if node.__class__ is ast.Expr:
            return isinstance(node.value, ast.Constant)
        if isinstance(node, ast.AnnAssign) and not node.value and not self.keeps_annotations:
            if isinstance(node.target, ast.Name):
                self.scope.bind(node.target.id)
            return True
        return node.__class__ is ast.Pass

    def _visit_if(self, node: ast.If) -> None:
        if last_name(node.test) != "TYPE_CHECKING":
            self.visit_fields(node)
            return
        for name, imported in (
            binding for each in node.body for inner in ast.walk(each) for binding in import_bindings(inner)
        ):
            if self.scope.kind == "module":
                self.scope.imports.setdefault(name, []).append(imported)
        self.tokens.append("TYPE_CHECKING")
        self.visit_block(node.orelse)

    def _visit_assign(self, node: ast.Assign) -> None:
        self.tokens.append("Assign")
        self.visitors[node.value.__class__](self, node.value)
        self.visit_list(node.targets)
        if self.scope.kind == "class":
            for target in node.targets:
                self._note_literal(target, node.value)

    def _visit_ann_assign(self, node: ast.AnnAssign) -> None:
        if self.keeps_annotations:
            self.visit_fields(node)
        else:
            self.tokens.append("Assign")
            self.visit(node.value or node.target)
            self.visit_list([node.target])
        self._note_literal(node.target, node.value)

    def _note_literal(self, target: ast.expr, value: ast.expr | None) -> None:
        """Record the constant that a class assigns to an attribute, unless it assigns two."""
        if self.scope.kind == "class" and isinstance(target, ast.Name):
            is_first = isinstance(value, ast.Constant) and target.id not in self.literals
            self.literals[target.id] = constant_text(value.value) if is_first else ""  # type: ignore[union-attr]

    def _visit_lambda(self, node: ast.Lambda) -> None:
        start = len(self.tokens)
        literals = self._add_parameters(node)
        outer = self._enter("function", node)
        self.visit(node.body)
        references = self.leave(outer)
        code = _part(self.tokens[start:], references)
        compiled = self._compiled("<lambda>", node.lineno, node.body)
        self.definitions.append(
            Definition("<lambda>", "<lambda>", node.lineno, node.end_lineno or 0, code, (), literals, compiled=compiled)
        )

    def _visit_function_def(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        decorators = tuple(map(self._decorator, node.decorator_list))
        annotations, types = self._annotations(node, any(each.reads_annotations for each in decorators))
        start = len(self.tokens)
        self.tokens += node.__class__.__name__, node.name
        literals = self._add_parameters(node)
        outer = self._enter("function", node)
        context = self.prefix, self.keeps_annotations
        qualname = self.prefix + node.name
        self.prefix, self.keeps_annotations = f"{qualname}.<locals>.", False
        self._add_body(node.body)
        self.prefix, self.keeps_annotations = context
        code = _part(self.tokens[start:], self.leave(outer))
        self.scope.bind(self.mangled(node.name))
        first = _first_line(node)
        self.definitions.append(
            Definition(
                node.name, qualname, first, node.end_lineno or 0, code, decorators, literals, annotations, types,
                self._compiled(node.name, first), _doc(node),
            )
        )  # fmt: skip

    def _enter(self, kind: str, node: Any) -> BindingScope:
        outer, self.scope = self.scope, BindingScope(kind)
        for parameter in _all_parameters(node.args) if kind == "function" else ():
            self.scope.bind(self.mangled(parameter.arg))
        self.visit_list(getattr(node, "type_params", ()))
        return outer

    def _add_parameters(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> dict[str, str]:
        """Add names and defaults of parameters, and return the defaults that are constants."""
        found, arguments = node.args, _all_parameters(node.args)
        kinds = [("/", found.posonlyargs), ("", found.args), ("*", [found.vararg] if found.vararg else [])]
        kinds += [("=", found.kwonlyargs), ("**", [found.kwarg] if found.kwarg else [])]
        self.tokens += [f"[{len(arguments)}", *(f"{kind}{each.arg}" for kind, names in kinds for each in names)]
        self.visit_list(found.defaults)
        self.visit_list(found.kw_defaults)
        positional = [*found.posonlyargs, *found.args][::-1]
        given = [
            *zip(positional, found.defaults[::-1], strict=False),
            *zip(found.kwonlyargs, found.kw_defaults, strict=True),
        ]
        return {name.arg: constant_text(default.value) for name, default in given if isinstance(default, ast.Constant)}

    def _add_body(self, statements: list[ast.stmt]) -> None:
        """Add the body of a function; the place of its plain imports does not matter."""
        imports = []
        at = len(self.tokens)
        self.tokens.append("")
        count = 0
        for each in statements:
            if self._is_no_op(each):
                continue
            start = len(self.tokens)
            self.visit(each)
            count += 1
            if isinstance(each, ast.Import | ast.ImportFrom):
                imports.append((start, len(self.tokens), [name for name, _ in import_bindings(each)]))
        used = {reference.chain[0] for reference in self.scope.loads}
        for start, end, names in reversed(imports):
            if all(self.scope.bound[name] == 1 and name in used for name in names):
                del self.tokens[start:end]
                count -= 1
        self.tokens[at] = f"[{count}"

    def _decorator(self, node: ast.expr) -> Decorator:
        part = self._capture([node])
        called = node
        while isinstance(called, ast.Call):
            called = called.func
        return Decorator(part, self.chain(called) or (), last_name(node) not in _IGNORE_ANNOTATIONS)

    def _capture(self, nodes: Iterable[ast.AST]) -> Part:
        """Add nodes, and return them as a part of their own."""
        outer, tokens = self.scope, len(self.tokens)
        self.scope = BindingScope(outer.kind)
        self.scope.bound, self.scope.imports = outer.bound, outer.imports
        for node in nodes:
            self.visit(node)
        loads, passed, self.scope = self.scope.loads, self.scope.passed, outer
        outer.loads += loads
        outer.passed += passed
        return _part(self.tokens[tokens:], loads + passed)

    def _annotations(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, kept: bool
    ) -> tuple[Part, tuple[Reference, ...]]:
        """Return a function's annotations, and the names in those of its parameters; add them if they are `kept`."""
        written = [each.annotation for each in _all_parameters(node.args) if each.annotation]
        if not (written or node.returns):
            return Part(), ()
        scope, tokens = self.scope, len(self.tokens)
        self.scope = BindingScope("annotations")
        types = self._capture(filter(None, map(_unquoted, written))).references
        self.scope = BindingScope("annotations")
        del self.tokens[tokens:]
        found = self._capture([*written, *([node.returns] if node.returns else [])])
        self.scope = scope
        if kept:
            scope.loads += found.references
        else:
            del self.tokens[tokens:]
        return found, types

    def _visit_class_def(self, node: ast.ClassDef) -> None:
        decorators = tuple(map(self._decorator, node.decorator_list))
        start = len(self.tokens)
        self.tokens += "ClassDef", node.name
        head = self._capture([*node.bases, *node.keywords])
        outer = self._enter("class", node)
        context = self.prefix, self.class_name, self.keeps_annotations, self.literals
        qualname = self.prefix + node.name
        self.prefix, self.class_name, self.literals = f"{qualname}.", node.name.lstrip("_"), {}
        self.keeps_annotations = bool(node.bases or node.keywords or node.decorator_list)
        self._add_class_body(node.body)
        literals = self.literals
        self.prefix, self.class_name, self.keeps_annotations, self.literals = context
        code = _part(self.tokens[start:], [*head.references, *self.leave(outer)])
        self.scope.bind(self.mangled(node.name))
        self.definitions.append(
            Definition(
                node.name, qualname, _first_line(node), node.end_lineno or 0, code, decorators, literals, doc=_doc(node)
            )
        )

    def _add_class_body(self, statements: list[ast.stmt]) -> None:
        self.tokens.append("[")
        for each in statements:
            if not self._is_no_op(each):
                before = dict(self.scope.bound)
                self.visit(each)
                if isinstance(each, _COMPOUND):
                    # What a branch binds may be unbound.
                    self.scope.bound = before
        self.tokens.append("]")

    def _compiled(self, name: str, line: int, body: ast.expr | None = None) -> str:
        """Return the digest of the code object of a function, or of the lambda with this body."""
        found = self.codes[name, line]
        if body and len(found) > 1:
            found = [code for code in found if _is_at(body, code)]
        return code_digest(found[0]) if len(found) == 1 else ""

    visitors = Visitors(
        {
            **ExpressionVisitor.visitors,
            ast.If: _visit_if,
            ast.Assign: _visit_assign,
            ast.AnnAssign: _visit_ann_assign,
            ast.Lambda: _visit_lambda,
            ast.FunctionDef: _visit_function_def,
            ast.AsyncFunctionDef: _visit_function_def,
            ast.ClassDef: _visit_class_def,
        }
    )


def _doc(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    text = ast.get_docstring(node)
    return _digest([text]) if text else ""


def _digest(tokens: Iterable[str]) -> str:
    return sha256(_SEPARATOR.join(tokens).encode("utf-8", "surrogatepass")).hexdigest()


def _part(tokens: list[str], references: Iterable[Reference]) -> Part:
    return Part(_digest(tokens), tuple(sorted(set(references))))


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Return the first line of the code object: that of the first decorator."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _all_parameters(arguments: ast.arguments) -> list[ast.arg]:
    """Return all parameters, starred ones last."""
    starred = [each for each in (arguments.vararg, arguments.kwarg) if each]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]


def _unquoted(annotation: ast.expr) -> ast.expr | None:
    """Return the expression in a quoted annotation; None when it has none."""
    if not (text := constant_string(annotation)):
        return annotation
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def effect_target(node: ast.stmt) -> ast.expr | None:
    """Return what a statement calls, or sets an attribute or item of; None for any other."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return node.value.func
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    held = [each.value for each in targets if isinstance(each, ast.Attribute | ast.Subscript)]
    return held[0] if held and isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete) else None


def _nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield every code object inside one."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _nested_codes(constant)


def _is_at(body: ast.expr, code: CodeType) -> bool:
    """Whether the body of a lambda is at the position of the code's instructions."""
    begin, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [place for place in code.co_positions() if place[0] and place[2] is not None and place[3]]
    return (begin, end) == (
        min((line, column) for line, _, column, _ in places),
        max((last, column) for _, last, _, column in places),
    )
