"""The fingerprint of a function and of all the project code it reaches."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from airflow_zen.caching.code.distributions import FRAMEWORK, origin_of_module
from airflow_zen.caching.code.ingredients import IngredientCollector
from airflow_zen.caching.code.normalize import (
    NormalizedSource,
    Reference,
    decorator_chain,
    normalize_source,
    parameter_references,
)
from airflow_zen.caching.code.objects import (
    ClassSource,
    class_source,
    closure_variables,
    descriptor_functions,
    function_source,
    is_framework_object,
    is_written_literal,
    origin_of_function,
    unwrap_callable,
    wrapped_callable,
)
from airflow_zen.caching.code.scope import MISSING, ResolvedName, Scope
from airflow_zen.caching.code.source import Import, parse_source_file
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import FingerprintFallback, fingerprint

_DYNAMIC_CALLS = {
    "builtins.exec", "builtins.eval", "builtins.compile", "builtins.__import__", "builtins.globals",
    "importlib.import_module", "importlib.__import__", "runpy.run_path", "runpy.run_module",
}  # fmt: skip


class CodeFingerprint(msgspec.Struct, frozen=True):
    """What the code contributes to a cache key.

    `ingredients` maps labels (`function features.clean`, `distribution scikit-learn`) to fingerprints or versions,
    `sources` the labels of functions, classes and modules to their normalized text, for a diff. `warnings` say why the
    same key may still give another result.
    """

    ingredients: Mapping[str, str]
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def fingerprint_code(
    function: Callable[..., Any], fallback: FingerprintFallback | None = None, arguments: Iterable[object] = ()
) -> CodeFingerprint:
    """Fingerprint a function and all it reaches: project code by source, constants by value, libraries by version.

    `fallback` fingerprints values of unknown types. `arguments` are passed to the function: the code of their classes
    is reached too. Raises `FingerprintError` when something reached cannot be fingerprinted soundly.
    """
    walker = _DependencyWalker(function, fallback)
    try:
        walker.visit_root()
        for value in arguments:
            walker.fingerprint(value)
        walker.visit_pending()
    except RecursionError as error:
        raise FingerprintError("The code reaches values nested too deeply. Set cache=False.") from error
    ingredients = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", **walker.ingredients}
    warnings = nondeterminism_warnings(walker.calls)
    return CodeFingerprint(dict(sorted(ingredients.items())), dict(sorted(walker.sources.items())), warnings)


class _DependencyWalker(IngredientCollector):
    """Visits everything that the code reaches, each thing once, and collects what it contributes."""

    def visit_function(self, label: str, function: FunctionType) -> None:
        """Add a function's text, what its names refer to, and its defaults."""
        source = function_source(function)
        definition = source.find_function(function.__code__)
        source.check_unchanged(function)
        cells = closure_variables(function)
        scope = Scope(function.__globals__, source, cells, label=_name_of_label(label))
        text = _normalize(definition.node, scope)
        lines = self._reference_lines(text, scope, nested="<locals>" in definition.qualname)
        lines += self._default_lines(scope.label, function, definition.node)
        wrapped = wrapped_callable(function)
        lines += [f"wraps {self.label_value(wrapped, 'wrapped')}"] if wrapped else []
        self._add_source(label, text.text, lines)
        if function is self.innermost:
            self._visit_parameter_types(definition.node, scope)

    def _visit_parameter_types(self, node: ast.AST, scope: Scope) -> None:
        """Reach the declared classes of the step's parameters, whose methods the step calls."""
        for reference in parameter_references(node):
            for resolved in scope.resolve(reference.chain):
                if resolved.path or isinstance(resolved.value, type):
                    self._label_reference(reference, resolved)

    def _default_lines(self, name: str, function: FunctionType, node: Any) -> list[str]:
        arguments = node.args
        names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)][::-1]
        values = dict(zip(names, (function.__defaults__ or ())[::-1], strict=False)) | (function.__kwdefaults__ or {})
        written = dict(zip(names, arguments.defaults[::-1], strict=False))
        written |= dict(zip([each.arg for each in arguments.kwonlyargs], arguments.kw_defaults, strict=True))
        return [
            f"default {parameter}: {self.label_value(value, f'{name}.{parameter}')}"
            for parameter, value in sorted(values.items())
            if not is_written_literal(written.get(parameter), value)
        ]

    def visit_class(self, label: str, cls: type) -> None:
        """Add a class's text, what its names refer to, its bases and its attributes."""
        found = class_source(cls)
        if found is None:
            self._visit_dynamic_class(label, cls)
            return
        scope = Scope(found.globals, found.source, found.cells, label=_name_of_label(label))
        texts = [_normalize(each.node, scope) for each in found.definitions]
        lines = [line for text in texts for line in self._reference_lines(text, scope)]
        lines += [f"base {self.label_class(base)}" for base in cls.__bases__ if base is not object]
        lines += [f"metaclass {self.label_class(type(cls))}"] if type(cls) is not type else []
        lines += self._attribute_lines(scope.label, cls, found)
        self._add_source(label, "\n".join(text.text for text in texts), lines)

    def _attribute_lines(self, qualified_name: str, cls: type, found: ClassSource) -> list[str]:
        """Return the attributes whose present value the text does not tell."""
        lines = []
        for name, value in found.runtime_attributes(cls):
            try:
                lines.append(f"{name}: {self.label_value(value, f'{qualified_name}.{name}')}")
            except FingerprintError:
                # A descriptor or marker of a library: the text says how it was made.
                if origin_of_module(type(value).__module__) != "third-party":
                    raise
        return lines

    def _visit_dynamic_class(self, label: str, cls: type) -> None:
        """Fingerprint a class that was made by a call, such as a namedtuple, by its contents."""
        if hasattr(cls, "__pydantic_fields__"):
            raise FingerprintError(f"{label} was made by a call. Write it as a class, or set cache=False.")
        bases = [self.label_class(base) for base in cls.__bases__]
        held = {name: each for name, each in vars(cls).items() if _is_dynamic_class_content(cls, name, each)}
        self.ingredients[label] = self.fingerprint((bases, held, vars(cls).get("__annotations__")))

    def visit_module(self, label: str, module: ModuleType) -> None:
        """Add a module that is used as a value."""
        source = parse_source_file(vars(module).get("__file__") or "", vars(module))
        if source is None:
            raise FingerprintError(f"{label} has no source. Set cache=False.")
        scope = Scope(vars(module), source)
        text = _normalize(source.tree, scope)
        names = tuple(Reference((name,)) for name in sorted(vars(module)) if not name.startswith("__"))
        self._add_source(label, text.text, self._reference_lines(text, scope, more=names))

    def _add_source(self, label: str, text: str, lines: Iterable[str]) -> None:
        self.sources[label] = "\n".join([text, *(f"# {line}" for line in lines)])
        self.ingredients[label] = fingerprint(self.sources[label])

    def _reference_lines(
        self, text: NormalizedSource, scope: Scope, nested: bool = False, more: tuple[Reference, ...] = ()
    ) -> list[str]:
        """Reach every name in a text, and return what each refers to."""
        scope = Scope(scope.globals, scope.source, scope.cells, text.imports, scope.label)
        self.source_folder = str(Path(scope.source.path).parent) if scope.source else ""
        lines = set()
        for reference in (*text.references, *more):
            for resolved in scope.resolve(reference.chain):
                if nested and resolved.value is MISSING and not resolved.path and reference.chain in text.decorators:
                    raise FingerprintError(
                        f"A decorator of {scope.label} uses {reference.chain[0]!r} of a function that has ended. "
                        "Decorate a function of the module, or set cache=False."
                    )
                found = self._label_reference(reference, resolved)
                if found:
                    lines.add(f"{'.'.join(reference.chain)}: {found}")
        for name in text.modules:
            resolved = next(Scope(scope.globals, imports=(("_", Import(name)),)).resolve(("_",)))
            lines.add(f"import {name}: {self._label_reference(Reference(('_',)), resolved)}")
        return sorted(lines)

    def _label_reference(self, reference: Reference, resolved: ResolvedName) -> str:
        if resolved.path:
            if resolved.path in _DYNAMIC_CALLS:
                raise FingerprintError(
                    f"The step's code uses {resolved.path.removeprefix('builtins.')}, which runs code that cannot be "
                    "seen. Set cache=False."
                )
            self.calls.add((resolved.path, reference.has_argument))
            return "" if resolved.module == "builtins" else self.label_external(resolved.path, resolved.module)
        if resolved.value is MISSING:
            return "missing"
        if _is_dunder(resolved.qualified_name.rpartition(".")[2]):
            return ""
        target = self.label_value(resolved.value, resolved.qualified_name)
        self.calls.add((".".join((target, *resolved.unresolved)), reference.has_argument))
        return target + self._label_attribute(resolved)

    def _label_attribute(self, resolved: ResolvedName) -> str:
        """Follow the attribute of a function or instance, which can hold a value or a clock."""
        name = resolved.unresolved[0] if resolved.unresolved else "__"
        held = getattr(resolved.value, "__dict__", {}) if callable(resolved.value) else {}
        if name.startswith("__") or name not in held or isinstance(resolved.value, type):
            return ""
        value = held[name]
        if isinstance(value, FunctionType) and origin_of_function(value) != "project":
            return ""
        return f" {self.label_value(value, f'{resolved.qualified_name}.{name}')}"


def _name_of_label(label: str) -> str:
    return label.partition(" ")[2]


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _normalize(node: ast.AST, scope: Scope) -> NormalizedSource:
    return normalize_source(node, lambda decorator: _is_scheduling_decorator(decorator, scope), scope.cells)


def _is_scheduling_decorator(decorator: ast.expr, scope: Scope) -> bool:
    """Whether a decorator only schedules: Airflow's and our own."""
    chain = decorator_chain(decorator)
    for resolved in scope.resolve(chain) if chain else ():
        if resolved.path:
            return resolved.path.partition(".")[0] in FRAMEWORK
        return resolved.value is not MISSING and is_framework_object(resolved.value)
    return False


def _is_dynamic_class_content(cls: type, name: str, value: Any) -> bool:
    if name.startswith("__") or (name.startswith("_") and hasattr(cls, "__members__")):
        return False
    if isinstance(value, FunctionType | classmethod | staticmethod | property):
        functions = (value,) if isinstance(value, FunctionType) else descriptor_functions(value)
        inner = unwrap_callable(functions[0] if functions else None)
        is_written = isinstance(inner, FunctionType) and not inner.__code__.co_filename.startswith("<")
        return is_written and origin_of_function(inner) == "project"
    is_builtin = type(value).__module__ in ("builtins", "collections", "_collections")
    return not (is_builtin and hasattr(type(value), "__get__"))


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
