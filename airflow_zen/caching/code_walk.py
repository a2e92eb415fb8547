"""The walk from a function through every piece of project code it reaches."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from airflow_zen.caching.code_class import ClassSource, class_source, is_literal
from airflow_zen.caching.code_function import cells_of, owner_of_code, source_of_function
from airflow_zen.caching.code_names import Reference, decorator_chain, parameter_references
from airflow_zen.caching.code_scope import MISSING, Meaning, Scope
from airflow_zen.caching.code_targets import Targets
from airflow_zen.caching.code_text import CodeText, normalise
from airflow_zen.caching.code_values import code_inside, inside_descriptor, is_of_framework, wrapped_by
from airflow_zen.caching.code_warnings import warnings_for
from airflow_zen.caching.distributions import FRAMEWORK, owner_of
from airflow_zen.caching.source import Import, source_of
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import fingerprint

_DYNAMIC = {
    "builtins.exec", "builtins.eval", "builtins.compile", "builtins.__import__", "builtins.globals",
    "importlib.import_module", "importlib.__import__", "runpy.run_path", "runpy.run_module",
}  # fmt: skip


class Walk(Targets):
    """Visits everything reached, each thing once, and writes down what it contributes."""

    def visit_function(self, label: str, function: FunctionType) -> None:
        """Write down a function's text, what its names stand for, and its defaults."""
        source = source_of_function(function)
        definition = source.function(function.__code__)
        source.check(function)
        cells = cells_of(function)
        scope = Scope(function.__globals__, source, cells, label=_home_of(label))
        text = normalise(definition.node, lambda each: _is_dropped(each, scope), cells)
        lines = self._lines(text, scope, nested="<locals>" in definition.qualname)
        lines += self._defaults(label, function, definition.node)
        wrapped = wrapped_by(function)
        lines += [f"wraps {self.target(wrapped, 'wrapped')}"] if wrapped else []
        self._write(label, text.text, lines)
        if function is self.innermost:
            self._reach_parameters(definition.node, scope)

    def _reach_parameters(self, node: ast.AST, scope: Scope) -> None:
        """Reach the classes that the step's parameters are declared as: their methods are what it calls."""
        for reference in parameter_references(node):
            for meaning in scope.resolve(reference.chain):
                if meaning.path or isinstance(meaning.value, type):
                    self._mean(reference, meaning)

    def _defaults(self, label: str, function: FunctionType, node: Any) -> list[str]:
        arguments = node.args
        names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)][::-1]
        values = dict(zip(names, (function.__defaults__ or ())[::-1], strict=False)) | (function.__kwdefaults__ or {})
        written = dict(zip(names, arguments.defaults[::-1], strict=False))
        written |= dict(zip([each.arg for each in arguments.kwonlyargs], arguments.kw_defaults, strict=True))
        values = {name: value for name, value in values.items() if not is_literal(written.get(name), value)}
        home = _home_of(label)
        return [f"default {name}: {self.target(value, f'{home}.{name}')}" for name, value in sorted(values.items())]

    def visit_class(self, label: str, cls: type) -> None:
        """Write down a class's text, what its names stand for, its bases and its attributes."""
        found = class_source(cls)
        if found is None:
            self._visit_made_class(label, cls)
            return
        scope = Scope(found.globals, found.source, found.cells, label=_home_of(label))
        texts = [normalise(each.node, lambda one: _is_dropped(one, scope), found.cells) for each in found.definitions]
        lines = [line for text in texts for line in self._lines(text, scope, nested=False)]
        lines += [f"base {self.class_target(base)}" for base in cls.__bases__ if base is not object]
        lines += [f"metaclass {self.class_target(type(cls))}"] if type(cls) is not type else []
        lines += self._attributes(label, cls, found)
        self._write(label, "\n".join(text.text for text in texts), lines)

    def _attributes(self, label: str, cls: type, found: ClassSource) -> list[str]:
        """Add what the class holds now and its text does not say."""
        lines = []
        for name, value in found.attributes(cls):
            try:
                lines.append(f"{name}: {self.target(value, f'{_home_of(label)}.{name}')}")
            except FingerprintError:
                # A descriptor or marker of a library: the text says how it was made.
                if owner_of(type(value).__module__) != "third-party":
                    raise
        return lines

    def _visit_made_class(self, label: str, cls: type) -> None:
        """Know a class that a call made, such as a namedtuple, by what it holds."""
        if hasattr(cls, "__pydantic_fields__"):
            raise FingerprintError(f"{label} was made by a call. Write it as a class, or set cache=False.")
        bases = [self.class_target(base) for base in cls.__bases__]
        held = {name: each for name, each in vars(cls).items() if _is_made_content(cls, name, each)}
        self.ingredients[label] = fingerprint((bases, held, vars(cls).get("__annotations__")), self.other, self.meet)

    def visit_module(self, label: str, module: ModuleType) -> None:
        """Write down a module that is passed around whole."""
        source = source_of(vars(module).get("__file__") or "", vars(module))
        if source is None:
            raise FingerprintError(f"{label} has no source. Set cache=False.")
        scope = Scope(vars(module), source)
        text = normalise(source.tree, lambda each: _is_dropped(each, scope))
        names = tuple(Reference((name,)) for name in sorted(vars(module)) if not name.startswith("__"))
        self._write(label, text.text, self._lines(text, scope, nested=False, more=names))

    def warnings(self) -> tuple[str, ...]:
        """Say why the same key may still give another result."""
        return warnings_for(self.calls)

    def _write(self, label: str, text: str, lines: Iterable[str]) -> None:
        self.sources[label] = "\n".join([text, *(f"# {line}" for line in lines)])
        self.ingredients[label] = fingerprint(self.sources[label])

    # What the names in a text come to.

    def _lines(self, text: CodeText, scope: Scope, nested: bool, more: tuple[Reference, ...] = ()) -> list[str]:
        """Reach every name in a text, and say what each stands for."""
        scope = Scope(scope.globals, scope.source, scope.cells, text.imports, scope.label)
        self.folder = str(Path(scope.source.path).parent) if scope.source else ""
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
        found = next(Scope(scope.globals, imports=(("_", Import(name)),)).resolve(("_",)))
        return self._mean(Reference(("_",)), found)

    def _mean(self, reference: Reference, meaning: Meaning) -> str:
        if meaning.path:
            if meaning.path in _DYNAMIC:
                raise FingerprintError(
                    f"The step's code uses {meaning.path.removeprefix('builtins.')}, which runs code that cannot be "
                    "seen. Set cache=False."
                )
            self.calls.add((meaning.path, reference.argued))
            return "" if meaning.module == "builtins" else self.outside(meaning.path, meaning.module)
        if meaning.value is MISSING:
            return "missing"
        if meaning.home.rpartition(".")[2].startswith("__") and meaning.home.endswith("__"):
            return ""
        target = self.target(meaning.value, meaning.home)
        return target + self._rest(meaning, reference, target)

    def _rest(self, meaning: Meaning, reference: Reference, target: str) -> str:
        """Follow one more attribute where it can hide a value or a clock."""
        if not meaning.rest:
            self.calls.add((target, reference.argued))
            return ""
        self.calls.add((".".join((target, *meaning.rest)), reference.argued))
        name = meaning.rest[0]
        held = getattr(meaning.value, "__dict__", {}) if callable(meaning.value) else {}
        value = held.get(name)
        if name.startswith("__") or name not in held or isinstance(meaning.value, type):
            return ""
        if isinstance(value, FunctionType) and owner_of_code(value) != "project":
            return ""
        return f" {self.target(value, f'{meaning.home}.{name}')}"


def _home_of(label: str) -> str:
    return label.partition(" ")[2]


def _is_dropped(decorator: ast.expr, scope: Scope) -> bool:
    """Recognise the decorators that only schedule: Airflow's and ours."""
    chain = decorator_chain(decorator)
    for meaning in scope.resolve(chain) if chain else ():
        if meaning.path:
            return meaning.path.partition(".")[0] in FRAMEWORK
        return meaning.value is not MISSING and is_of_framework(meaning.value)
    return False


def _is_made_content(cls: type, name: str, value: Any) -> bool:
    if name.startswith("__") or (name.startswith("_") and hasattr(cls, "__members__")):
        return False
    if isinstance(value, FunctionType | classmethod | staticmethod | property):
        inner = code_inside(value if isinstance(value, FunctionType) else (inside_descriptor(value) or (None,))[0])
        return (
            isinstance(inner, FunctionType)
            and owner_of_code(inner) == "project"
            and not inner.__code__.co_filename.startswith("<")
        )
    return not (
        hasattr(type(value), "__get__") and type(value).__module__ in ("builtins", "collections", "_collections")
    )
