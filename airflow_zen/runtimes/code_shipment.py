"""The source code that a step needs in a process that has neither its file nor Airflow: statements and modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from airflow_zen.caching.code.distributions import (
    FRAMEWORK,
    is_framework_object,
    is_importable,
    origin_of_module,
)
from airflow_zen.caching.code.source import origin_of_function, source_file
from airflow_zen.caching.code.syntax import effect_target
from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.materializers.user_defined import register_materializer
from airflow_zen.runtimes.statement_names import (
    DEFINITIONS,
    annotations_of,
    bound_names,
    is_future,
    own_statements,
    position,
    read_names,
    root_name,
)
from airflow_zen.steps.spec import Position, SourceModule
from airflow_zen.type_names import stable_module_name

# Python's name for a DAG file's module begins so; `__main__` gets such a name, too, which no library has.
_MAIN_MODULE = f"unusual_prefix_{'0' * 40}_"


class ShippedCode(msgspec.Struct, frozen=True):
    """A function by module and name, and the modules of the project that are shipped for it."""

    module: str
    qualname: str
    modules: tuple[SourceModule, ...] = ()


def ship_code(
    function: Callable[..., Any], definitions: Iterable[Any], write_variables: Callable[[dict[str, Any]], str]
) -> ShippedCode:
    """Return the code that the far side executes to define a function; `definitions` are further ones that it needs.

    A function of an installed distribution is imported there. Of the function's own file only the statements are
    shipped that bind names that it needs, directly or not, without the decorators of Airflow and of this package. Other
    modules of the project are shipped whole, unless they import Airflow. `write_variables` returns values as typed
    JSON. Raises `RuntimeUnavailable` for a function that cannot be found by its name.
    """
    inner = inspect.unwrap(function)
    if not isinstance(inner, FunctionType) or inner.__name__ == "<lambda>":
        raise RuntimeUnavailable(f"{function!r} cannot be run elsewhere. Write the step as a def in a file.")
    if origin_of_function(inner) != "project":
        return ShippedCode(function.__module__, function.__qualname__)
    root = sys.modules.get(function.__module__)
    if root is None:
        raise RuntimeUnavailable(f"Module {function.__module__!r} of {function.__qualname__}() is not loaded.")
    shipment = _Shipment(write_variables)
    own = shipment.sliced(root)
    own.need_function(inner)
    for definition in definitions:
        shipment.need_definition(definition)
    shipment.follow_imports()
    is_nested = "<locals>" in function.__qualname__
    return ShippedCode(own.name, inner.__name__ if is_nested else function.__qualname__, tuple(shipment.modules()))


class _Shipment:
    """The modules that are shipped: some of them sliced, all others whole."""

    def __init__(self, write_variables: Callable[[dict[str, Any]], str]) -> None:
        self._write_variables = write_variables
        self._sliced: dict[str, _Slice] = {}
        self._whole: dict[str, SourceModule] = {}

    def sliced(self, module: ModuleType) -> _Slice:
        """Return the slice of a module."""
        if module.__name__ not in self._sliced:
            self._sliced[module.__name__] = _Slice(module, *_read_module(module))
            self._need_package(module.__name__)
        return self._sliced[module.__name__]

    def need_definition(self, definition: Any) -> None:
        """Ship a class or function of the project, or the module that it is."""
        name = definition.__name__ if isinstance(definition, ModuleType) else definition.__module__
        module = sys.modules.get(name)
        if module is None or origin_of_module(name, vars(module).get("__file__")) != "project":
            return
        if name in self._sliced and definition is not module:
            self._sliced[name].need(definition.__qualname__.partition(".")[0])
        else:
            self._need_module(name, None)

    def follow_imports(self) -> None:
        """Ship the modules that what is shipped imports, until there are no more."""
        known = -1
        while known != (known := self._size()):
            for own in list(self._sliced.values()):
                own.close()
                for name, attribute in own.imported():
                    self._need_module(name, attribute)

    def modules(self) -> Iterator[SourceModule]:
        """Yield the shipped modules."""
        yield from self._whole.values()
        yield from (own.shipped(self._write_variables) for own in self._sliced.values())

    def _size(self) -> int:
        return len(self._whole) + sum(own.size for own in self._sliced.values())

    def _need_module(self, name: str, attribute: str | None) -> None:
        """Ship a module of the project with its parent packages; `attribute` is the needed name, None for all."""
        if attribute and is_importable(f"{name}.{attribute}") and _is_package(name):
            self._need_module(f"{name}.{attribute}", None)
        if not is_importable(name) or origin_of_module(name) != "project":
            return
        self._need_package(name)
        module = importlib.import_module(name)
        if name in self._sliced:
            self._sliced[name].need_exported(attribute)
        elif name not in self._whole:
            text, tree = _read_module(module)
            if any(_imports_framework(node) for node in tree.body):
                self.sliced(module).need_exported(attribute)
                return
            file = str(vars(module).get("__file__") or "")
            self._whole[name] = SourceModule(name, file, text, is_package=_is_package(name))
            for found, wanted in _imports_of(tree, module):
                self._need_module(found, wanted)

    def _need_package(self, name: str) -> None:
        """Ship the parent packages of a module, without which it cannot be imported."""
        if parent := name.rpartition(".")[0]:
            self._need_module(parent, "")


class _Slice:
    """The statements of one module that are needed."""

    def __init__(self, module: ModuleType, text: str, tree: ast.Module) -> None:
        self.module, self._text, self._tree = module, text, tree
        self._needed: set[str] = set()
        self._pending: list[str] = []
        self._kept: dict[Position, ast.stmt] = {}
        self._left_out: set[Position] = set()
        self._variables: dict[str, Any] = {}
        for node in tree.body:
            if is_future(node) or _is_star_import(node) or self._registers_materializer(node):
                self._keep(node)

    @property
    def name(self) -> str:
        """The name of the module on the far side."""
        name, file = self.module.__name__, vars(self.module).get("__file__")
        return name if name != "__main__" else f"{_MAIN_MODULE}{stable_module_name(name, file)}"

    @property
    def size(self) -> int:
        """How much is needed so far."""
        return len(self._kept) + len(self._needed)

    def need(self, name: str) -> None:
        """Keep the statements that bind a name."""
        if name not in self._needed:
            self._needed.add(name)
            self._pending.append(name)

    def need_exported(self, attribute: str | None) -> None:
        """Keep what another module imports: one name, nothing for "", all definitions for None."""
        for name in [attribute] if attribute is not None else [*self._bound]:
            self.need(name)

    def need_function(self, function: FunctionType) -> None:
        """Keep a function, and the parts of its enclosing functions that it reads."""
        if "<locals>" not in function.__qualname__:
            self.need(function.__qualname__.partition(".")[0])
            return
        path = _path_to(self._tree, function)
        self._keep(path[-1])
        self._needed.add(function.__name__)
        self._need_enclosed(path, dict(inspect.getclosurevars(function).nonlocals))

    def close(self) -> None:
        """Keep everything that kept statements need, and the statements that modify it."""
        while self._pending:
            for node in self._bound.get(self._pending.pop(), ()):
                self._keep(node)
            if not self._pending:
                self._keep_effects()

    def imported(self) -> Iterator[tuple[str, str | None]]:
        """Yield the modules that the kept statements import, with the imported names."""
        for node in list(self._kept.values()):
            for found in ast.walk(node):
                for alias in self._aliases(found):
                    yield from _imported(found, alias, self.module, self._tree)

    def shipped(self, write_variables: Callable[[dict[str, Any]], str]) -> SourceModule:
        """Return the slice as a part of a spec."""
        names = {
            position(node): tuple(alias.asname or alias.name for alias in self._aliases(node))
            for node in self._kept.values()
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        return SourceModule(
            self.name,
            str(vars(self.module).get("__file__") or f"<{self.name}>"),
            self._text,
            is_package="__path__" in vars(self.module),
            statements=tuple(sorted(self._kept)),
            left_out=tuple(sorted(self._left_out)),
            names=tuple(sorted(names.items())),
            variables=write_variables(self._variables) if self._variables else "{}",
        )

    @cached_property
    def _bound(self) -> dict[str, list[ast.stmt]]:
        """The statements of the top level by the names that they bind."""
        found: dict[str, list[ast.stmt]] = {}
        for node in self._tree.body:
            for name in bound_names(node):
                found.setdefault(name, []).append(node)
        return found

    def _keep(self, node: ast.stmt) -> None:
        """Keep a statement and everything that it reads."""
        if position(node) in self._kept:
            return
        self._kept[position(node)] = node
        self._leave_out(node)
        for name in read_names(node, self._left_out):
            self.need(name)

    def _keep_effects(self) -> None:
        """Keep the statements that call or change what a kept import binds: `pd.set_option(...)`."""
        for node in self._tree.body:
            target = effect_target(node)
            name = root_name(target) if target is not None else ""
            if name in self._needed and not (self._is_framework(name) or self._is_called_definition(node, name)):
                self._keep(node)

    def _is_called_definition(self, node: ast.stmt, name: str) -> bool:
        """Whether a statement calls a function of this file: a DAG or a task, or a main function."""
        return isinstance(node, ast.Expr) and any(isinstance(each, DEFINITIONS) for each in self._bound.get(name, ()))

    def _is_framework(self, name: str) -> bool:
        value = vars(self.module).get(name)
        return is_framework_object(value) and value is not register_materializer

    def _registers_materializer(self, node: ast.stmt) -> bool:
        decorators = node.decorator_list if isinstance(node, ast.ClassDef) else ()
        return any(self._resolve(each) is register_materializer for each in decorators)

    def _leave_out(self, node: ast.stmt) -> None:
        """Record for removal the decorators of Airflow and of this package, and annotations with Airflow's classes."""
        for found in ast.walk(node):
            if isinstance(found, DEFINITIONS):
                self._left_out |= {position(each) for each in found.decorator_list if self._only_schedules(each)}
            for annotation in annotations_of(found):
                names = (root_name(each) for each in ast.walk(annotation) if isinstance(each, ast.Name | ast.Attribute))
                if any(self._is_airflow(name) for name in names):
                    self._left_out.add(position(annotation))

    def _is_airflow(self, name: str) -> bool:
        value = vars(self.module).get(name)
        module = value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
        return module.partition(".")[0] == "airflow"

    def _only_schedules(self, decorator: ast.expr) -> bool:
        value = self._resolve(decorator)
        return value is not None and value is not register_materializer and is_framework_object(value)

    def _resolve(self, expression: ast.expr) -> Any:
        """Return the current value of a dotted name, or of the called name; None if it is not known."""
        if isinstance(expression, ast.Call):
            return self._resolve(expression.func)
        if isinstance(expression, ast.Attribute):
            return getattr(self._resolve(expression.value), expression.attr, None)
        return vars(self.module).get(expression.id) if isinstance(expression, ast.Name) else None

    def _aliases(self, node: ast.AST) -> Iterator[ast.alias]:
        """Yield the needed names that an import statement binds; all names if it is inside a function."""
        at_top = isinstance(node, ast.stmt) and self._kept.get(position(node)) is node
        for alias in getattr(node, "names", ()) if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if not at_top or (alias.asname or alias.name.partition(".")[0]) in {*self._needed, "*"} or is_future(node):
                yield alias

    def _need_enclosed(self, path: list[Any], values: dict[str, Any]) -> None:
        """Keep what a nested function reads of its enclosing functions: definitions and imports, or the values."""
        for name, value in values.items():
            found = [
                node for outer in reversed(path[:-1]) for node in own_statements(outer) if name in bound_names(node)
            ]
            if found and all(isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom)) for node in found):
                self._needed.add(name)
                for node in found:
                    self._keep(node)
                inner = inspect.unwrap(value) if callable(value) else None
                if isinstance(inner, FunctionType):
                    self._need_enclosed([*path[:-1], found[0]], dict(inspect.getclosurevars(inner).nonlocals))
            else:
                self._variables[name] = value


def _read_module(module: ModuleType) -> tuple[str, ast.Module]:
    """Return the text of a module, and its syntax tree."""
    path = str(vars(module).get("__file__") or "")
    source = source_file(path, vars(module)) if path else None
    if source is None and "__path__" in vars(module):
        return "", ast.parse("")
    if source is None:
        raise RuntimeUnavailable(f"Module {module.__name__!r} has no source text. Put its code into a file.")
    return source.text, ast.parse(source.text, path)


def _path_to(tree: ast.Module, function: FunctionType) -> list[Any]:
    """Return the definitions from the top level down to a function, by their names and its first line."""
    names = [name for name in function.__code__.co_qualname.split(".") if name != "<locals>"]
    paths = [[node] for node in own_statements(tree) if getattr(node, "name", None) == names[0]]
    for name in names[1:]:
        paths = [
            [*path, node] for path in paths for node in own_statements(path[-1]) if getattr(node, "name", "") == name
        ]
    line = function.__code__.co_firstlineno
    for path in paths:
        node = path[-1]
        if isinstance(node, DEFINITIONS) and line in (node.lineno, *(each.lineno for each in node.decorator_list)):
            return path
    raise RuntimeUnavailable(f"{function.__qualname__}() is not in its file as it was loaded. Reload the file.")


def _imported(node: Any, alias: ast.alias, module: ModuleType, tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Yield the module of an import and the imported name; for a whole module, yield each attribute that is read."""
    if isinstance(node, ast.ImportFrom):
        package = str(vars(module).get("__package__") or "").split(".")
        above = package[: len(package) - node.level + 1] if node.level else []
        yield ".".join([*above, *filter(None, [node.module])]), None if alias.name == "*" else alias.name
        return
    if alias.asname is None and "." in alias.name:
        yield alias.name, None
        return
    name = alias.asname or alias.name
    uses = [each for each in ast.walk(tree) if isinstance(each, ast.Name) and each.id == name]
    attributes = [
        each.attr
        for each in ast.walk(tree)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == name
    ]
    yield alias.name, ""
    for attribute in attributes if len(attributes) == len(uses) else (None,):
        yield alias.name, attribute


def _imports_of(tree: ast.Module, module: ModuleType) -> Iterator[tuple[str, str | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield from _imported(node, alias, module, tree)


def _imports_framework(node: ast.stmt) -> bool:
    """Whether a statement imports Airflow, or a part of this package that needs Airflow."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
    return any(name.partition(".")[0] in FRAMEWORK for name in names)


def _is_package(name: str) -> bool:
    return "__path__" in vars(importlib.import_module(name))


def _is_star_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.names[0].name == "*" and not _imports_framework(node)
