"""Name resolution: what a name in a piece of code refers to, a closure, import, global or builtin."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.caching.code.distributions import is_importable, module_file, origin_of_module
from airflow_zen.type_names import stable_module_name

if TYPE_CHECKING:
    from airflow_zen.caching.code.source import Import, SourceFile

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


class ResolvedName(msgspec.Struct, frozen=True):
    """What a chain of names refers to: a value of the project, or a name outside of it.

    `path` is the public name (`numpy.random.rand`) of what comes from outside the project, `module` the outside module
    it starts in, `qualified_name` the name of a project's value (`config.LIMIT`), `unresolved` the attributes that were
    not followed.
    """

    value: Any = MISSING
    path: str = ""
    module: str = ""
    qualified_name: str = ""
    unresolved: tuple[str, ...] = ()


class Scope(msgspec.Struct, frozen=True):
    """The names that a piece of code sees."""

    globals: Mapping[str, Any]
    source: SourceFile | None = None
    cells: Mapping[str, Any] = msgspec.field(default_factory=dict)
    imports: tuple[tuple[str, Import], ...] = ()
    label: str = ""

    def resolve(self, chain: tuple[str, ...]) -> Iterator[ResolvedName]:
        """Yield everything that a chain may refer to: imports inside the code, then the nearest scope."""
        name, rest = chain[0], chain[1:]
        inner = [imported for bound, imported in self.imports if bound == name]
        for imported in inner:
            yield self._resolve_import(imported, rest)
        if name in self.cells:
            yield _resolve_attributes(self.cells[name], f"{self.label}.{name}", rest)
        elif name in self.globals:
            yield self._resolve_global(name, rest)
        elif hasattr(builtins, name):
            yield ResolvedName(getattr(builtins, name), f"builtins.{name}", "builtins", unresolved=rest)
        elif not inner:
            yield ResolvedName()

    def _resolve_global(self, name: str, rest: tuple[str, ...]) -> ResolvedName:
        value = self.globals[name]
        imported = self.source.imports.get(name) if self.source else None
        if imported and imported.attribute and not isinstance(value, ModuleType):
            module = self._absolute_module(imported)
            original = getattr(sys.modules.get(module), imported.attribute, MISSING)
            if original is value and origin_of_module(module) != "project":
                return ResolvedName(value, ".".join((module, imported.attribute, *rest)), module)
        return _resolve_attributes(value, f"{module_label(self.globals)}.{name}", rest)

    def _absolute_module(self, imported: Import) -> str:
        if not imported.level:
            return imported.module
        package = str(self.globals.get("__package__") or self.globals.get("__name__", ""))
        parts = package.split(".")
        return ".".join([*parts[: len(parts) - imported.level + 1], *filter(None, [imported.module])])

    def _resolve_import(self, imported: Import, rest: tuple[str, ...]) -> ResolvedName:
        module = self._absolute_module(imported)
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
        if not rest:
            return ResolvedName(value, qualified_name=qualified_name)
        qualified_name = f"{module_label(vars(value))}.{rest[0]}"
        value, rest = _module_attribute(value, rest[0]), rest[1:]
    return ResolvedName(value, qualified_name=qualified_name, unresolved=rest)


def _module_attribute(module: ModuleType, name: str) -> Any:
    submodule = f"{module.__name__}.{name}"
    if name not in vars(module) and "__path__" in vars(module) and is_importable(submodule):
        return importlib.import_module(submodule)
    return getattr(module, name, MISSING)


def _external_name(module: str, names: tuple[str, ...]) -> ResolvedName:
    """Return a name outside the project, with the deepest module of its path."""
    path = ".".join((module, *names))
    for name in names:
        deeper = f"{module}.{name}"
        is_namespace = not (module_file(module) or ".py").endswith((".py", ".pyc", ".so", ".pyd"))
        if deeper not in sys.modules and not (is_namespace and is_importable(deeper)):
            break
        module = deeper
    return ResolvedName(path=path, module=module)


def module_label(module_globals: Mapping[str, Any]) -> str:
    """Return the name of the module that globals belong to, the same on every machine."""
    return stable_module_name(str(module_globals.get("__name__", "")), module_globals.get("__file__"))
