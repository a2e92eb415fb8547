"""Resolution of names in code to values at run time, and the labels of reached values."""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from airflow_zen.caching.code.distributions import (
    FRAMEWORK,
    MISSING,
    is_framework_object,
    is_importable,
    module_file,
    origin_of_module,
)
from airflow_zen.caching.code.source import SourceFile, closure_variables
from airflow_zen.caching.code.summary import REFLECTION, Decorator, Definition, Import, Reference
from airflow_zen.errors import FingerprintError
from airflow_zen.type_names import stable_module_name

# Set by Python when it loads a module; what they hold depends on the checkout and the way to start.
MODULE_ATTRIBUTES = frozenset(
    {"__annotations__", "__builtins__", "__cached__", "__file__", "__loader__", "__name__", "__package__", "__path__", "__spec__"}
)  # fmt: skip


_BUILTINS = vars(builtins)


class ResolvedName(msgspec.Struct, frozen=True):
    """The target of a chain of names: a value of the project, or an external name.

    `path` is the public name (`numpy.random.rand`) of an external target, `module` the external module it starts in,
    `qualified_name` the name of a project's value (`config.LIMIT`), `unresolved` the attributes that were not followed.
    """

    value: Any = MISSING
    path: str = ""
    module: str = ""
    qualified_name: str = ""
    unresolved: tuple[str, ...] = ()


class Scope(msgspec.Struct, frozen=True):
    """The names visible to a piece of code; `imports` are those that its file binds by imports."""

    globals: Mapping[str, Any]
    imports: Mapping[str, tuple[Import, ...]] = msgspec.field(default_factory=dict)
    cells: Mapping[str, Any] = msgspec.field(default_factory=dict)
    label: str = ""

    def resolve(self, reference: Reference) -> Iterable[ResolvedName]:
        """Return every possible target of a reference: imports inside the code, or the nearest scope."""
        name, rest = reference.chain[0], reference.chain[1:]
        if name == REFLECTION:
            raise FingerprintError(
                f"The step's code uses {rest[0]}, which finds code that cannot be seen. "
                "Name what it needs, for example in a dictionary, or set cache=False."
            )
        if reference.imports:
            return [self._resolve_import(imported, rest) for imported in reference.imports]
        if name in self.cells:
            return (_resolve_attributes(self.cells[name], f"{self.label}.{name}", rest),)
        if name in self.globals:
            return (self._resolve_global(name, rest),)
        if name in _BUILTINS:
            return (ResolvedName(_BUILTINS[name], f"builtins.{name}", "builtins", unresolved=rest),)
        return (ResolvedName(),)

    def is_of_library(self, decorator: Decorator) -> bool:
        """Whether a decorator is that of a distribution."""
        found = self.resolve(Reference(decorator.chain)) if decorator.chain else ()
        return any(each.module and origin_of_module(each.module) == "third-party" for each in found)

    def _resolve_global(self, name: str, rest: tuple[str, ...]) -> ResolvedName:
        value = self.globals[name]
        for imported in self.imports.get(name, ()) if not isinstance(value, ModuleType) else ():
            module = self.absolute_module(imported)
            original = getattr(sys.modules.get(module), imported.attribute, MISSING) if imported.attribute else MISSING
            if original is value and origin_of_module(module) != "project":
                return ResolvedName(value, ".".join((module, imported.attribute, *rest)), module)
        return _resolve_attributes(value, f"{module_label(self.globals)}.{name}", rest)

    def absolute_module(self, imported: Import) -> str:
        """Return the module that an import names, relative ones too."""
        if not imported.level:
            return imported.module
        package = str(self.globals.get("__package__") or self.globals.get("__name__", ""))
        parts = package.split(".")
        return ".".join([*parts[: len(parts) - imported.level + 1], *filter(None, [imported.module])])

    def _resolve_import(self, imported: Import, rest: tuple[str, ...]) -> ResolvedName:
        module = self.absolute_module(imported)
        names = (imported.attribute, *rest) if imported.attribute else rest
        if not is_importable(module):
            return ResolvedName(path=".".join((module, *names)), module="")
        if origin_of_module(module) != "project":
            return _external_name(module, names)
        return _resolve_attributes(importlib.import_module(module), module, names)


def _resolve_attributes(value: Any, qualified_name: str, rest: tuple[str, ...]) -> ResolvedName:
    """Follow attributes while the value is a module of the project."""
    while isinstance(value, ModuleType):
        if origin_of_module(value.__name__, vars(value).get("__file__")) != "project":
            return _external_name(value.__name__, rest)
        if not rest or rest[0] == "__dict__":
            return ResolvedName(value, qualified_name=qualified_name)
        qualified_name = f"{module_label(vars(value))}.{rest[0]}"
        submodule = f"{value.__name__}.{rest[0]}"
        if rest[0] not in vars(value) and "__path__" in vars(value) and is_importable(submodule):
            value, rest = importlib.import_module(submodule), rest[1:]
        else:
            value, rest = getattr(value, rest[0], MISSING), rest[1:]
    return ResolvedName(value, qualified_name=qualified_name, unresolved=rest)


def _external_name(module: str, names: tuple[str, ...]) -> ResolvedName:
    """Return a name outside the project, with the deepest module of its path; the project may be part of a namespace."""
    path = ".".join((module, *names))
    for position, name in enumerate(names, 1):
        deeper = f"{module}.{name}"
        is_namespace = not (module_file(module) or ".py").endswith((".py", ".pyc", ".so", ".pyd"))
        if deeper not in sys.modules and not (is_namespace and is_importable(deeper)):
            break
        if origin_of_module(deeper) == "project":
            return _resolve_attributes(importlib.import_module(deeper), deeper, names[position:])
        module = deeper
    return ResolvedName(path=path, module=module)


def without_checkout(value: Any, folder: str) -> Any:
    """Return a path in the folder of the code, such as `Path(__file__).parent`, without the path of the checkout."""
    if folder and isinstance(value, str | PurePath) and f"{value}{os.sep}".startswith(folder + os.sep):
        return "beside the code", str(value)[len(folder) :]
    return value


def module_label(module_globals: Mapping[str, Any]) -> str:
    """Return the name of the module that globals belong to, the same on every machine."""
    return stable_module_name(str(module_globals.get("__name__", "")), module_globals.get("__file__"))


def scope_of(function: FunctionType, source: SourceFile, label: str) -> Scope:
    """Return the names that the code of a function sees."""
    return Scope(function.__globals__, source.summary.imports, closure_variables(function), label)


def kept_decorators(definition: Definition, scope: Scope) -> list[Decorator]:
    """Return a definition's decorators, without those that only schedule: Airflow's and our own."""
    return [each for each in definition.decorators if not _only_schedules(each, scope)]


def _only_schedules(decorator: Decorator, scope: Scope) -> bool:
    for resolved in scope.resolve(Reference(decorator.chain)) if decorator.chain else ():
        if resolved.path:
            return resolved.path.partition(".")[0] in FRAMEWORK
        return resolved.value is not MISSING and is_framework_object(resolved.value)
    return False


def check_decorators(decorators: Iterable[Decorator], scope: Scope) -> None:
    """Raise `FingerprintError` when a decorator of a nested function uses a local name of a function that has ended."""
    for reference in (each for decorator in decorators for each in decorator.part.references):
        for resolved in scope.resolve(reference):
            if resolved.value is MISSING and not resolved.path:
                raise FingerprintError(
                    f"A decorator of {scope.label} uses {reference.chain[0]!r} of a function that has ended. "
                    "Decorate a function of the module, or set cache=False."
                )


def check_options(definition: Definition, scope: Scope, rebound: Collection[str]) -> None:
    """Raise `FingerprintError` when the options that a function's decorators were given cannot be seen.

    They are in the text, unless they are a call's result or a name that was bound again. `rebound` are such names.
    """
    for decorator in definition.decorators:
        for reference in decorator.part.references:
            for resolved in scope.resolve(reference) if reference.chain != decorator.chain else ():
                hidden = f"{'.'.join(reference.chain)}()" if reference.is_called and callable(resolved.value) else ""
                hidden = repr(reference.chain[0]) if reference.chain[0] in rebound else hidden
                if hidden and not resolved.path:
                    raise FingerprintError(
                        f"A decorator of {scope.label} was given {hidden}, whose value then cannot be seen. "
                        "Give it a constant of the module that is bound once, or set cache=False."
                    )


class LabelRegistry:
    """The labels of functions, classes, modules and constants, with the ingredients and texts under them.

    The module `root_module` is left out of labels.
    """

    def __init__(self, root_module: str) -> None:
        self.root_module = root_module
        self.ingredients: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        # The things themselves are kept, so that no id is used again.
        self._labels: dict[tuple[str, int], tuple[str, Any]] = {}
        self._numbers: Counter[str] = Counter()
        self._pending: deque[Callable[[], None]] = deque()

    def visit_pending(self) -> None:
        """Visit everything that was labeled but not visited yet."""
        while self._pending:
            self._pending.popleft()()

    def visit_once(self, kind: str, module: str, qualname: str, thing: Any, visit: Callable[[str, Any], None]) -> str:
        """Label a value, and schedule a visit if it is new."""
        known = len(self._labels)
        label = self.unique_label(kind, module, qualname, thing)
        if len(self._labels) > known:
            self._pending.append(lambda: visit(label, thing))
        return label

    def unique_label(self, kind: str, module: str, qualname: str, thing: Any) -> str:
        """Label a thing once; the root's own module is left out, so that a copied DAG file keeps its keys."""
        parts = ("" if module == self.root_module and qualname else module, qualname)
        label = f"{kind} {'.'.join(filter(None, parts))}"
        key = label, id(thing)
        if key not in self._labels:
            self._numbers[label] += 1
            number = self._numbers[label]
            self._labels[key] = f"{label} #{number}" if number > 1 else label, thing
        return self._labels[key][0]
