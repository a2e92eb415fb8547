"""What a name in a piece of code stands for: closure, import, global or builtin."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import msgspec

from airflow_zen.caching.distributions import file_of, is_known, owner_of
from airflow_zen.caching.source import Import, SourceFile
from airflow_zen.labels import module_label

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


class Meaning(msgspec.Struct, frozen=True):
    """What a chain of names came to: a value, or a dotted name of somebody else's module.

    `path` is the public name (`numpy.random.rand`) where the code came from outside the project, `module`
    the outside module it starts in, `home` where a project's value is kept (`config.LIMIT`), `rest` the
    attributes not followed.
    """

    value: Any = MISSING
    path: str = ""
    module: str = ""
    home: str = ""
    rest: tuple[str, ...] = ()


class Scope(msgspec.Struct, frozen=True):
    """The names that a piece of code sees."""

    globals: Mapping[str, Any]
    source: SourceFile | None = None
    cells: Mapping[str, Any] = msgspec.field(default_factory=dict)
    imports: tuple[tuple[str, Import], ...] = ()
    label: str = ""

    def resolve(self, chain: tuple[str, ...]) -> Iterator[Meaning]:
        """Give every thing a chain may stand for: imports inside the code, then the nearest scope."""
        name, rest = chain[0], chain[1:]
        inner = [imported for bound, imported in self.imports if bound == name]
        for imported in inner:
            yield self._imported(imported, rest)
        if name in self.cells:
            yield _follow(self.cells[name], f"{self.label}.{name}", rest)
        elif name in self.globals:
            yield self._global(name, rest)
        elif hasattr(builtins, name):
            yield Meaning(getattr(builtins, name), f"builtins.{name}", "builtins", rest=rest)
        elif not inner:
            yield Meaning()

    def _global(self, name: str, rest: tuple[str, ...]) -> Meaning:
        value = self.globals[name]
        imported = self.source.imports.get(name) if self.source else None
        if imported and imported.attribute and not isinstance(value, ModuleType):
            module = self._absolute(imported)
            came_from = getattr(sys.modules.get(module), imported.attribute, MISSING)
            if came_from is value and owner_of(module) != "project":
                return Meaning(value, ".".join((module, imported.attribute, *rest)), module)
        return _follow(value, f"{_label(self.globals)}.{name}", rest)

    def _absolute(self, imported: Import) -> str:
        if not imported.level:
            return imported.module
        package = str(self.globals.get("__package__") or self.globals.get("__name__", ""))
        parts = package.split(".")
        return ".".join([*parts[: len(parts) - imported.level + 1], *filter(None, [imported.module])])

    def _imported(self, imported: Import, rest: tuple[str, ...]) -> Meaning:
        module = self._absolute(imported)
        names = (imported.attribute, *rest) if imported.attribute else rest
        if not is_known(module):
            return Meaning(path=".".join((module, *names)), module="")
        if owner_of(module) != "project":
            return _outside(module, names)
        return _follow(importlib.import_module(module), module, names)


def _follow(value: Any, home: str, rest: tuple[str, ...]) -> Meaning:
    """Read attributes as long as the value is a module of the project."""
    while isinstance(value, ModuleType):
        if owner_of(value.__name__, vars(value).get("__file__")) != "project":
            return _outside(value.__name__, rest)
        if not rest:
            return Meaning(value, home=home)
        home, value, rest = f"{_label(vars(value))}.{rest[0]}", _attribute(value, rest[0]), rest[1:]
    return Meaning(value, home=home, rest=rest)


def _attribute(module: ModuleType, name: str) -> Any:
    submodule = f"{module.__name__}.{name}"
    if name not in vars(module) and "__path__" in vars(module) and is_known(submodule):
        return importlib.import_module(submodule)
    return getattr(module, name, MISSING)


def _outside(module: str, names: tuple[str, ...]) -> Meaning:
    """Name something outside the project, starting from the deepest module on the way."""
    path = ".".join((module, *names))
    for name in names:
        deeper = f"{module}.{name}"
        if deeper not in sys.modules and not (_is_namespace(module) and is_known(deeper)):
            break
        module = deeper
    return Meaning(path=path, module=module)


def _is_namespace(module: str) -> bool:
    file = file_of(module)
    return file is not None and not file.endswith((".py", ".pyc", ".so", ".pyd"))


def _label(module_globals: Mapping[str, Any]) -> str:
    return module_label(str(module_globals.get("__name__", "")), module_globals.get("__file__"))
