"""The walk from a function to every piece of project code, constant and distribution it reaches."""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from airflow_zen.caching.code_class import ClassSource, class_source
from airflow_zen.caching.code_scope import MISSING, Meaning, Scope
from airflow_zen.caching.code_text import CodeText, Reference, decorator_chain, normalise, parameter_references
from airflow_zen.caching.code_values import (
    code_inside,
    importable_name,
    instance_content,
    is_of_framework,
    is_without_effect,
    wrapped_by,
)
from airflow_zen.caching.code_warnings import warnings_for
from airflow_zen.caching.distributions import owner_of, requirement
from airflow_zen.caching.source import SourceFile, source_of
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import Other, class_label, fingerprint, module_label

_DYNAMIC = {
    "builtins.exec", "builtins.eval", "builtins.compile", "builtins.__import__", "builtins.globals",
    "importlib.import_module", "importlib.__import__", "runpy.run_path", "runpy.run_module",
}  # fmt: skip
_REDUCIBLE = (operator.itemgetter, operator.attrgetter, operator.methodcaller)


class Walk:
    """Collects the ingredients of everything reached: each thing once, in an order that the code decides."""

    def __init__(self, root: Callable[..., Any], other: Other | None) -> None:
        self.root = root
        self.ask = other
        self.ingredients: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self._calls: set[tuple[str, bool]] = set()
        self._labels: dict[tuple[str, int], str] = {}
        self._kept: list[Any] = []
        self._pending: list[Callable[[], None]] = []
        innermost = code_inside(root)
        self._innermost = innermost if isinstance(innermost, FunctionType) else None
        self._home = _module_of(innermost.__globals__) if self._innermost else ""

    def run(self) -> None:
        """Reach everything from the root."""
        self._target(self.root, f"{self._home}.{getattr(self.root, '__name__', 'step')}")
        self.finish()

    def finish(self) -> None:
        """Visit what was met and not yet visited."""
        while self._pending:
            self._pending.pop(0)()

    def warnings(self) -> tuple[str, ...]:
        """Say why the same key may still give another result."""
        return warnings_for(self._calls)

    def other(self, value: Any) -> str | None:
        """Fingerprint a value inside a value: code by what it reaches, a project's instance by what it holds."""
        code = self._code_target(value)
        if code is not None:
            return f"code {code}"
        if type(value) is object:
            return "object"
        if isinstance(value, functools.partial):
            return fingerprint((value.func, value.args, value.keywords), self.other, self.meet)
        if isinstance(value, _REDUCIBLE):
            return fingerprint(value.__reduce__()[1:], self.other, self.meet)
        content = instance_content(value) if owner_of(type(value).__module__) == "project" else None
        if content is not None:
            return fingerprint(content, self.other, self.meet)
        return self.ask(value) if self.ask else None

    def meet(self, cls: type) -> None:
        """Reach the class that a value is made of."""
        self._class_target(cls)

    # What a thing is called, having made sure that it is visited.

    def _target(self, value: Any, home: str) -> str:
        return self._code_target(value) or self._constant(value, home)

    def _code_target(self, value: Any) -> str | None:
        if isinstance(value, type):
            return self._class_target(value)
        if isinstance(value, FunctionType):
            return self._function_target(value)
        if isinstance(value, ModuleType):
            return self._module_target(value)
        if isinstance(value, MethodType):
            return f"{self._target(value.__func__, 'method')} of {self._target(value.__self__, f'{self._home}.self')}"
        if is_without_effect(value):
            return "nothing"
        inner = _inside_descriptor(value)
        if inner:
            return " ".join(self._target(each, "descriptor") for each in inner)
        return self._wrapper_target(value) or self._named_target(value)

    def _function_target(self, function: FunctionType) -> str:
        module = str(function.__globals__.get("__name__", ""))
        if _owner_of_code(function) == "project":
            return self._once(
                "function", _module_of(function.__globals__), _qualname(function), function, self._visit_function
            )
        return self._wrapper_target(function) or self._foreign_function(function, module)

    def _foreign_function(self, function: FunctionType, module: str) -> str:
        named = importable_name(function)
        if named:
            return self._outside(".".join(named), named[0])
        # Made by a call: what it holds is known only by looking.
        cells = [_content(cell) for cell in function.__closure__ or ()]
        held = fingerprint((cells, function.__defaults__, function.__kwdefaults__), self.other, self.meet)
        return f"{self._outside(f'{module}.{function.__code__.co_name}', module)} holding {held}"

    def _wrapper_target(self, value: Any) -> str | None:
        wrapped = wrapped_by(value)
        if wrapped is None:
            return None
        inside = self._target(wrapped, f"{self._home}.wrapped")
        if is_of_framework(value):
            return inside
        registry = getattr(value, "registry", None) if hasattr(value, "dispatch") else None
        cases = [self._target(each, "case") for each in (registry or {}).values()]
        module = type(value).__module__ if not isinstance(value, FunctionType) else value.__globals__["__name__"]
        return f"{self._outside(module, module)} around {' '.join([inside, *sorted(cases)])}"

    def _named_target(self, value: Any) -> str | None:
        named = importable_name(value) if callable(value) else None
        if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | type(None)):
            named = None
        if named and owner_of(named[0]) == "project":
            if type(value).__module__ == "builtins" or "cython" in type(value).__module__:
                raise FingerprintError(
                    f"{'.'.join(named)} is compiled and belongs to no distribution. Install it as one, or set cache=False."
                )
            return None
        return self._outside(".".join(named), named[0]) if named else self._typing_target(value)

    def _typing_target(self, value: Any) -> str | None:
        is_name = type(value).__module__ == "typing" and hasattr(value, "__name__") and not hasattr(value, "__args__")
        return f"typing {value.__name__}" if is_name else None

    def _class_target(self, cls: type) -> str:
        if owner_of(cls.__module__) != "project":
            return self._outside(f"{cls.__module__}.{cls.__qualname__}", cls.__module__)
        module, _, _ = class_label(cls).partition(f".{cls.__qualname__}")
        return self._once("class", module, cls.__qualname__, cls, self._visit_class)

    def _module_target(self, module: ModuleType) -> str:
        if owner_of(module.__name__, getattr(module, "__file__", None)) != "project":
            return self._outside(module.__name__, module.__name__)
        return self._once("module", _module_of(vars(module)), "", module, self._visit_module)

    def _outside(self, path: str, module: str) -> str:
        if module and owner_of(module) == "third-party" and module.partition(".")[0] != "airflow_zen":
            label, version = requirement(module)
            self.ingredients[label] = version
        return path

    def _constant(self, value: Any, home: str) -> str:
        label = self._label("constant", *home.rpartition(".")[::2], value)
        if label not in self.ingredients:
            try:
                self.ingredients[label] = fingerprint(value, self.other, self.meet)
            except FingerprintError as error:
                raise FingerprintError(f"{label}, which the step's code reads: {error}") from error
        return label

    def _once(self, kind: str, module: str, qualname: str, thing: Any, visit: Callable[[str, Any], None]) -> str:
        known = len(self._kept)
        label = self._label(kind, module, qualname, thing)
        if len(self._kept) > known:
            self._pending.append(lambda: visit(label, thing))
        return label

    def _label(self, kind: str, module: str, qualname: str, thing: Any) -> str:
        """Name a thing once; the root's own module is left out, so that a copied DAG file keeps its keys."""
        name = ".".join(part for part in (module if module != self._home or not qualname else "", qualname) if part)
        key = f"{kind} {name}", id(thing)
        if key not in self._labels:
            others = sum(1 for label, _ in self._labels if label == key[0])
            self._labels[key] = f"{key[0]} #{others + 1}" if others else key[0]
            self._kept.append(thing)
        return self._labels[key]

    # What each kind of thing contributes.

    def _visit_function(self, label: str, function: FunctionType) -> None:
        source = _source(function)
        definition = source.function(function.__code__)
        source.check(function)
        cells = {name: _content(cell) for name, cell in _cells(function) if name != "__class__"}
        scope = Scope(function.__globals__, source, cells, label=self._home_of(label))
        text = normalise(definition.node, lambda each: _is_dropped(each, scope), cells)
        lines = self._lines(text, scope, nested="<locals>" in definition.qualname)
        lines += self._defaults(label, function, definition.node)
        wrapped = wrapped_by(function)
        lines += [f"wraps {self._target(wrapped, 'wrapped')}"] if wrapped else []
        self._write(label, text.text, lines)
        if function is self._innermost:
            self._reach_parameters(definition.node, scope)

    def _home_of(self, label: str) -> str:
        return label.partition(" ")[2]

    def _reach_parameters(self, node: ast.AST, scope: Scope) -> None:
        """Reach the classes that the step's parameters are declared as: their methods are what it calls."""
        for reference in parameter_references(node):
            for meaning in scope.resolve(reference.chain):
                if meaning.path or isinstance(meaning.value, type):
                    self._mean(reference, meaning)

    def _defaults(self, label: str, function: FunctionType, node: Any) -> list[str]:
        positional = [*node.args.posonlyargs, *node.args.args]
        values = dict(zip([each.arg for each in positional][::-1], (function.__defaults__ or ())[::-1], strict=False))
        values.update(function.__kwdefaults__ or {})
        home = self._home_of(label)
        return [f"default {name}: {self._target(value, f'{home}.{name}')}" for name, value in sorted(values.items())]

    def _visit_class(self, label: str, cls: type) -> None:
        found = class_source(cls)
        if found is None:
            self._visit_made_class(label, cls)
            return
        scope = Scope(found.globals, found.source, found.cells, label=self._home_of(label))
        texts = [normalise(each.node, lambda one: _is_dropped(one, scope), found.cells) for each in found.definitions]
        lines = [line for text in texts for line in self._lines(text, scope, nested=False)]
        lines += [f"base {self._class_target(base)}" for base in cls.__bases__ if base is not object]
        lines += [f"metaclass {self._class_target(type(cls))}"] if type(cls) is not type else []
        lines += self._attributes(label, cls, found)
        self._write(label, "\n".join(text.text for text in texts), lines)

    def _attributes(self, label: str, cls: type, found: ClassSource) -> list[str]:
        """Add what the class holds now and its text does not say."""
        lines = []
        for name, value in found.attributes(cls):
            try:
                lines.append(f"{name}: {self._target(value, f'{self._home_of(label)}.{name}')}")
            except FingerprintError:
                # A descriptor or marker of a library: the text says how it was made.
                if owner_of(type(value).__module__) != "third-party":
                    raise
        return lines

    def _visit_made_class(self, label: str, cls: type) -> None:
        """Know a class that a call made, such as a namedtuple, by what it holds."""
        if hasattr(cls, "__pydantic_fields__"):
            raise FingerprintError(f"{label} was made by a call. Write it as a class, or set cache=False.")
        bases = [self._class_target(base) for base in cls.__bases__]
        held = {name: each for name, each in vars(cls).items() if _is_made_content(cls, name, each)}
        self.ingredients[label] = fingerprint((bases, held, vars(cls).get("__annotations__")), self.other, self.meet)

    def _visit_module(self, label: str, module: ModuleType) -> None:
        source = source_of(getattr(module, "__file__", None) or "", vars(module))
        if source is None:
            raise FingerprintError(f"{label} has no source. Set cache=False.")
        scope = Scope(vars(module), source)
        text = normalise(source.tree, lambda each: _is_dropped(each, scope))
        names = tuple(Reference((name,)) for name in sorted(vars(module)) if not name.startswith("__"))
        self._write(label, text.text, self._lines(text, scope, nested=False, more=names))

    def _write(self, label: str, text: str, lines: Iterable[str]) -> None:
        self.sources[label] = "\n".join([text, *(f"# {line}" for line in lines)])
        self.ingredients[label] = fingerprint(self.sources[label])

    # What the names in a text come to.

    def _lines(self, text: CodeText, scope: Scope, nested: bool, more: tuple[Reference, ...] = ()) -> list[str]:
        """Reach every name in a text, and say what each stands for."""
        scope = Scope(scope.globals, scope.source, scope.cells, text.imports, scope.label)
        lines = set()
        for reference in (*text.references, *more):
            for meaning in scope.resolve(reference.chain):
                if nested and meaning.value is MISSING and not meaning.path and reference.chain in text.decorators:
                    raise FingerprintError(
                        f"A decorator of {scope.label} uses {reference.chain[0]!r} of a function that has ended. "
                        "Decorate a function of the module, or set cache=False."
                    )
                found = self._mean(reference, meaning)
                if found:
                    lines.add(f"{'.'.join(reference.chain)}: {found}")
        lines |= {f"import {name}: {self._named_module(name, scope)}" for name in text.modules}
        return sorted(lines)

    def _named_module(self, name: str, scope: Scope) -> str:
        found = next(Scope(scope.globals, imports=(("_", _import(name)),)).resolve(("_",)))
        return self._mean(Reference(("_",)), found)

    def _mean(self, reference: Reference, meaning: Meaning) -> str:
        if meaning.path:
            if meaning.path in _DYNAMIC:
                raise FingerprintError(
                    f"The step's code uses {meaning.path.removeprefix('builtins.')}, which runs code that cannot be "
                    "seen. Set cache=False."
                )
            self._calls.add((".".join((meaning.path, *meaning.rest)) if meaning.module == "builtins" else meaning.path, reference.argued))
            return "" if meaning.module == "builtins" else self._outside(meaning.path, meaning.module)
        if meaning.value is MISSING:
            return "missing"
        if meaning.home.rpartition(".")[2].startswith("__") and meaning.home.endswith("__"):
            return ""
        target = self._target(meaning.value, meaning.home)
        return target + self._rest(meaning, reference, target)

    def _rest(self, meaning: Meaning, reference: Reference, target: str) -> str:
        """Follow one more attribute where it can hide a value or a clock."""
        if not meaning.rest:
            self._calls.add((target, reference.argued))
            return ""
        self._calls.add((".".join((target, *meaning.rest)), reference.argued))
        held = getattr(meaning.value, "__dict__", {}) if isinstance(meaning.value, FunctionType) else {}
        name = meaning.rest[0]
        return f" {self._target(held[name], f'{meaning.home}.{name}')}" if name in held and name != "__wrapped__" else ""


def _import(name: str) -> Any:
    from airflow_zen.caching.source import Import

    return Import(name)


def _module_of(module_globals: Mapping[str, Any]) -> str:
    return module_label(str(module_globals.get("__name__", "")), module_globals.get("__file__"))


def _owner_of_code(function: FunctionType) -> str:
    file = function.__code__.co_filename
    module = str(function.__globals__.get("__name__", ""))
    return owner_of(module, None if file.startswith("<") else file)


def _source(function: FunctionType) -> SourceFile:
    source = source_of(function.__code__.co_filename, function.__globals__)
    if source is None:
        raise FingerprintError(
            f"{function.__qualname__!r} has no source text: it was typed at a prompt or made by exec. "
            "Define it in a file, or set cache=False."
        )
    return source


def _qualname(function: FunctionType) -> str:
    # functools.wraps copies __qualname__; the code object keeps its own.
    return getattr(function.__code__, "co_qualname", function.__qualname__)


def _cells(function: FunctionType) -> Iterable[tuple[str, Any]]:
    return zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def _is_dropped(decorator: ast.expr, scope: Scope) -> bool:
    """Recognise the decorators that only schedule: Airflow's and ours."""
    chain = decorator_chain(decorator)
    for meaning in scope.resolve(chain) if chain else ():
        if meaning.path.partition(".")[0] in ("airflow", "airflow_zen") or is_of_framework(meaning.value):
            return True
    return False


def _inside_descriptor(value: Any) -> tuple[Any, ...]:
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    if isinstance(value, property):
        return tuple(each for each in (value.fget, value.fset, value.fdel) if each)
    return (value.func,) if isinstance(value, functools.cached_property) else ()


def _is_made_content(cls: type, name: str, value: Any) -> bool:
    if name.startswith("__") or (name.startswith("_") and hasattr(cls, "__members__")):
        return False
    if isinstance(value, FunctionType | classmethod | staticmethod | property):
        inner = code_inside(value if isinstance(value, FunctionType) else (_inside_descriptor(value) or (None,))[0])
        return isinstance(inner, FunctionType) and _owner_of_code(inner) == "project" and not inner.__code__.co_filename.startswith("<")
    return not (hasattr(type(value), "__get__") and type(value).__module__ in ("builtins", "collections", "_collections"))
