"""What a text says: the part of it that decides its result, the names it refers to, and the calls to warn of."""

from __future__ import annotations

import ast
import re
import symtable
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

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


class Reference(msgspec.Struct, frozen=True):
    """A name with the attributes read from it; `has_argument` when it is called with an argument other than None."""

    chain: tuple[str, ...]
    has_argument: bool = False


class NormalizedSource(msgspec.Struct, frozen=True):
    """Normalized source, with every name in it that is defined elsewhere.

    `imports` are bound inside the code itself, `modules` are imported by a call, and `decorators` are the names that
    decorators refer to.
    """

    text: str
    references: tuple[Reference, ...]
    imports: tuple[tuple[str, Import], ...]
    modules: tuple[str, ...]
    decorators: frozenset[tuple[str, ...]] = frozenset()


def normalize_source(node: ast.AST, is_dropped: DecoratorFilter, free: Iterable[str] = ()) -> NormalizedSource:
    """Remove what cannot change a result: docstrings, annotations, formatting, comments, dropped decorators.

    `free` names the variables of enclosing functions that the code uses. Annotations in the body of a class that may
    be made of them (it has a base, a decorator or a metaclass) are kept, and so are those of a function whose
    decorator may read them.
    """
    kept = _Normalizer(is_dropped).visit(node)
    lifted = _extract_imports(kept)
    text = ast.unparse(ast.fix_missing_locations(kept))
    inner = tuple(binding for child in ast.walk(kept) for binding in import_bindings(child))
    found = _ReferenceCollector()
    if isinstance(kept, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        # Its own defaults are fingerprinted by value.
        kept.args.defaults, kept.args.kw_defaults = [], []
    found.visit(kept)
    outside = _external_names(text, tuple(free)) | {name for name, _ in inner} | found.globals
    references = {reference for reference in found.references if reference.chain[0] in outside}
    ordered = sorted(references, key=lambda one: (one.chain, one.has_argument))
    imports = sorted({*inner, *lifted}, key=repr)
    above = {one.chain for each in getattr(kept, "decorator_list", []) for one in _collect_references(each)}
    return NormalizedSource(text, tuple(ordered), tuple(imports), tuple(sorted(found.modules)), frozenset(above))


def decorator_chain(decorator: ast.expr) -> tuple[str, ...] | None:
    """Return the dotted name of a decorator, called or not."""
    while isinstance(decorator, ast.Call):
        decorator = decorator.func
    return _ReferenceCollector().chain(decorator)


def parameter_references(node: ast.AST) -> Iterator[Reference]:
    """Yield every name in the annotations of a function's parameters, in quoted annotations too."""
    for parameter in _parameters(node.args) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ():
        annotation = parameter.annotation
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                annotation = ast.parse(annotation.value, mode="eval").body
            except SyntaxError:
                continue
        yield from _collect_references(annotation) if annotation else ()


def _collect_references(expression: ast.AST) -> list[Reference]:
    found = _ReferenceCollector()
    found.visit(expression)
    return sorted(found.references, key=lambda one: one.chain)


def _external_names(text: str, free: tuple[str, ...]) -> set[str]:
    """Return the names that Python's own compiler finds outside the text."""
    if free:
        text = f"def _({', '.join(free)}):\n" + textwrap.indent(text, " ")
    tables, names = [symtable.symtable(text, "<code>", "exec")], set(free)
    for table in tables:
        for symbol in table.get_symbols():
            is_external = symbol.is_global() or (table.get_type() == "module" and not symbol.is_assigned())
            if symbol.is_referenced() and is_external:
                names.add(symbol.get_name())
        tables += table.get_children()
    return names


class _Normalizer:
    """Copies a tree without what cannot change a result."""

    def __init__(self, is_dropped: DecoratorFilter) -> None:
        self.is_dropped = is_dropped

    def visit(self, node: ast.AST) -> Any:
        copied = type(node)(**{name: self._normalize_field(value) for name, value in ast.iter_fields(node)})
        if isinstance(copied, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return self._normalize_definition(copied)
        if isinstance(copied, ast.If) and _last_name(copied.test) == "TYPE_CHECKING":
            return ast.If(ast.Constant(True), copied.orelse, []) if copied.orelse else ast.Pass()
        if isinstance(copied, _BLOCK_STATEMENTS):
            _strip_annotations(copied, "body", "orelse", "finalbody")
        return copied

    def _normalize_field(self, value: Any) -> Any:
        if isinstance(value, list):
            kept = [self._normalize_field(each) for each in value if not _is_no_op(each)]
            return kept if kept or not value else [ast.Pass()]
        return self.visit(value) if isinstance(value, ast.AST) else value

    def _normalize_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        node.decorator_list = [each for each in node.decorator_list if not self.is_dropped(each)]
        if isinstance(node, ast.ClassDef):
            if not (node.bases or node.keywords or node.decorator_list):
                _strip_annotations(node, "body")
            return node
        if all(_last_name(each) in _IGNORE_ANNOTATIONS for each in node.decorator_list):
            node.returns = None
            for argument in _parameters(node.args):
                argument.annotation = None
        _strip_annotations(node, "body")
        return node


def _strip_annotations(node: Any, *blocks: str) -> None:
    """Remove the annotations of the variables in a statement's blocks."""
    for name in blocks:
        block = getattr(node, name, None)
        if isinstance(block, list) and block:
            kept = [
                ast.Assign([each.target], each.value) if isinstance(each, ast.AnnAssign) and each.value else each
                for each in block
                if not isinstance(each, ast.AnnAssign) or each.value
            ]
            setattr(node, name, kept or [ast.Pass()])


def _is_no_op(value: Any) -> bool:
    """Whether a statement is `pass`, a docstring or another lone constant."""
    return isinstance(value, ast.Pass) or (isinstance(value, ast.Expr) and isinstance(value.value, ast.Constant))


def _extract_imports(node: ast.AST) -> list[tuple[str, Import]]:
    """Remove the plain imports of a function's body and return them, so that their position does not matter."""
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


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    starred = [each for each in (arguments.vararg, arguments.kwarg) if each]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]


def _last_name(node: ast.expr) -> str:
    """Return the last name of `a`, `m.a`, `a(...)`."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class _ReferenceCollector(ast.NodeVisitor):
    """Collects names with the attributes read from them."""

    def __init__(self) -> None:
        self.references: set[Reference] = set()
        self.globals: set[str] = set()
        self.modules: set[str] = set()
        self.class_name = ""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self.class_name = self.class_name, node.name.lstrip("_")
        self.generic_visit(node)
        self.class_name = outer

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.references.add(Reference((self._mangled(node.id),)))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.references.add(Reference((self._mangled(node.target.id),)))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute | ast.Subscript) -> None:
        if chain := self.chain(node):
            self.references.add(Reference(chain))
        else:
            self.generic_visit(node)

    # `globals()["name"]` is a name too.
    visit_Subscript = visit_Attribute  # noqa: N815 - the name that ast.NodeVisitor calls

    def visit_Call(self, node: ast.Call) -> None:
        if chain := self.chain(node):
            self.references.add(Reference(chain))
            return
        called = self.chain(node.func)
        if called is None:
            self.visit(node.func)
        elif called[-1] in ("import_module", "__import__") and (module := _string_argument(node, 0)):
            self.modules.add(module)
        else:
            values = [*node.args, *(each.value for each in node.keywords)]
            has_argument = any(not (isinstance(each, ast.Constant) and each.value is None) for each in values)
            self.references.add(Reference(called, has_argument))
        for each in (*node.args, *node.keywords):
            self.visit(each)

    def chain(self, node: ast.AST) -> tuple[str, ...] | None:
        """Return the names of `a.b.c`, `getattr(a, "b").c` and `globals()["a"].b`."""
        if isinstance(node, ast.Name):
            return (self._mangled(node.id),)
        if isinstance(node, ast.Attribute):
            above = self.chain(node.value)
            return (*above, self._mangled(node.attr)) if above else None
        if isinstance(node, ast.Call) and _last_name(node.func) == "getattr" and len(node.args) == 2:
            above, name = self.chain(node.args[0]), _string_argument(node, 1)
            return (*above, name) if above and name else None
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Constant)
            and _last_name(node.value) == "globals"
        ):
            self.globals.add(str(node.slice.value))
            return (str(node.slice.value),)
        return None

    def _mangled(self, name: str) -> str:
        """Return the name that `__name` has inside a class."""
        is_private = self.class_name and name.startswith("__") and not name.endswith("__")
        return f"_{self.class_name}{name}" if is_private else name


def _string_argument(node: ast.Call, position: int) -> str:
    given = node.args[position] if len(node.args) > position else None
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else ""


_CLOCK = re.compile(
    r"time\.(time|time_ns|localtime|gmtime|ctime|asctime|strftime)"
    r"|datetime\.(datetime|date)\.(now|utcnow|today)"
    r"|pandas\.Timestamp\.(now|utcnow|today)|pendulum\.(now|today|yesterday|tomorrow)"
)
_UNIQUE = re.compile(
    r"uuid\.uuid[14]|os\.(urandom|getrandom)|secrets\.\w+|random\.SystemRandom(\.\w+)?|tempfile\.mkdtemp"
)

# Generators that draw from one hidden state, and the call that seeds it.
_GLOBAL_GENERATORS = {
    re.compile(r"random\.(?!Random\b|SystemRandom\b|seed\b|setstate\b)[a-z]\w*"): "random.seed",
    re.compile(r"numpy\.random\.(?!seed\b|set_state\b|get_state\b|default_rng\b|[A-Z])\w+"): "numpy.random.seed",
    re.compile(r"torch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial)(_like)?"): "torch.manual_seed",
}
_SEEDABLE = re.compile(
    r"random\.Random|numpy\.random\.(default_rng|RandomState|SeedSequence|PCG64|PCG64DXSM|MT19937|Philox|SFC64)"
)


def nondeterminism_warnings(calls: Iterable[tuple[str, bool]]) -> tuple[str, ...]:
    """Return a warning for each name that reads the clock or an unseeded generator.

    `calls` holds dotted names, each with whether it is called with an argument.
    """
    calls = set(calls)
    seeded = {name for name, has_argument in calls if has_argument}
    faults = {(name, _nondeterminism(name, has_argument, seeded)) for name, has_argument in calls}
    return tuple(
        f"The code calls {name}, which {fault}: a cached result repeats the first one. Consider cache=False."
        for name, fault in sorted(faults)
        if fault
    )


def _nondeterminism(name: str, has_argument: bool, seeded: set[str]) -> str:
    if _CLOCK.fullmatch(name):
        return "reads the clock"
    if _UNIQUE.fullmatch(name):
        return "gives another value every time"
    if _SEEDABLE.fullmatch(name) and not has_argument:
        return "is not given a seed"
    for pattern, seed in _GLOBAL_GENERATORS.items():
        if pattern.fullmatch(name) and seed not in seeded:
            return f"draws from a generator that {seed} has not seeded"
    return ""
