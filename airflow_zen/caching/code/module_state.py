"""What modules do to libraries when they are loaded: options, seeds, and methods hung on classes of libraries."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

from airflow_zen.caching.code.distributions import FRAMEWORK, origin_of_module
from airflow_zen.caching.code.lookups import is_lookup
from airflow_zen.caching.code.names import MODULE_ATTRIBUTES, Scope
from airflow_zen.caching.code.source import SourceFile, function_definition, origin_of_function, source_file
from airflow_zen.caching.code.summary import Import, Part, Reference, Summary
from airflow_zen.errors import FingerprintError

# Calls that set no state on which a result depends.
_HARMLESS = re.compile(
    r"(airflow|airflow_zen|atexit|dotenv|faulthandler|logging|loguru|matplotlib|mlflow|rich|signal|structlog|warnings)\b.*"
    r"|sys\.path\b.*|builtins\.(?!setattr$|delattr$).*"
)
_SETTER = re.compile(
    r".*\.(set|seed|manual_seed|enable|disable|register|use|update|patch|install)(_\w+|[a-z]*)|builtins\.setattr"
)
_REGISTRATION = re.compile(r".*\.register(_\w+)?")


def loaded_modules(started: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the namespaces of project modules, and of those that they import at their top level, directly or not."""
    pending, found = list(started), dict[int, Mapping[str, Any]]()
    for names in pending:
        if id(names) not in found:
            found[id(names)] = names
            pending += (vars(sys.modules[name]) for name in _imported_modules(names) if _is_loaded(name))
    return sorted(found.values(), key=lambda names: str(names.get("__name__", "")))


def _imported_modules(names: Mapping[str, Any]) -> Iterator[str]:
    """Yield each module that a module may import, and the packages around it and the module itself."""
    scope = module_scope(names)
    imported = {
        str(names.get("__name__", "")),
        *(name for each in _imports(scope) for name in _candidates(each, scope)),
    }
    for name in imported:
        parts = name.split(".")
        yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _imports(scope: Scope) -> Iterator[Import]:
    return (each for imports in scope.imports.values() for each in imports)


def _candidates(imported: Import, scope: Scope) -> tuple[str, ...]:
    module = scope.absolute_module(imported)
    return module, f"{module}.{imported.attribute}", imported.loads


def _is_loaded(name: str) -> bool:
    return name in sys.modules and hasattr(sys.modules[name], "__dict__") and origin_of_module(name) == "project"


def module_source(names: Mapping[str, Any]) -> SourceFile | None:
    """Return the file of a module, None without text."""
    return source_file(str(names.get("__file__") or ""), names)


def _summary(names: Mapping[str, Any]) -> Summary | None:
    source = module_source(names)
    return source.summary if source else None


def held_names(names: Mapping[str, Any]) -> Part:
    """Return a part with all the names of a module, except for what Python sets and what looks code up."""
    unread = {*MODULE_ATTRIBUTES, "__doc__"}
    held = sorted(name for name, value in names.items() if not (name in unread or is_lookup(value)))
    return Part("", tuple(Reference((name,)) for name in held))


def module_scope(names: Mapping[str, Any]) -> Scope:
    """Return the scope of a module's top level."""
    summary = _summary(names)
    return Scope(names, summary.imports if summary else {})


def state_parts(names: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the statements of a module's top level that may change the state of a library, and what is registered there."""
    summary, scope = _summary(names), module_scope(names)
    for effect in summary.effects if summary else ():
        references = (Reference(effect.target),) if effect.target else effect.part.references
        if any(_changes_state(reference, scope) for reference in references):
            yield effect.part
    for definition in summary.definitions if summary else ():
        for decorator in definition.decorators:
            if decorator.chain and any(_REGISTRATION.fullmatch(path) for path in _paths(decorator.chain, scope)):
                yield from (decorator.part, definition.code)


def _paths(chain: tuple[str, ...], scope: Scope) -> Iterator[str]:
    return (resolved.path for resolved in scope.resolve(Reference(chain)) if resolved.path)


def _changes_state(reference: Reference, scope: Scope) -> bool:
    """Whether a statement that calls or sets this changes a library, itself or in a function of the project."""
    for resolved in scope.resolve(reference):
        if resolved.path and not _HARMLESS.fullmatch(resolved.path):
            return True
        value = resolved.value
        if isinstance(value, FunctionType) and origin_of_function(value) == "project" and _is_setup(value):
            return True
    return False


def _is_setup(function: FunctionType) -> bool:
    try:
        definition = function_definition(function)[1]
    except FingerprintError:
        return False
    scope = module_scope(function.__globals__)
    paths = (path for reference in definition.code.references for path in _reference_paths(reference, scope))
    return any(_SETTER.fullmatch(path) and not _HARMLESS.fullmatch(path) for path in paths)


def _reference_paths(reference: Reference, scope: Scope) -> Iterator[str]:
    return (resolved.path for resolved in scope.resolve(reference) if resolved.path)


def _all_references(summary: Summary) -> Iterator[Reference]:
    """Yield every reference of a file, those in annotations too."""
    yield from summary.code.references
    for definition in summary.definitions:
        yield from definition.annotations.references
        yield from definition.parameter_types


def unused_imports(names: Mapping[str, Any]) -> Iterator[str]:
    """Yield the modules of libraries that a module imports under names it does not use: for their effect, perhaps."""
    summary, scope = _summary(names), module_scope(names)
    used = {reference.chain[0] for reference in _all_references(summary)} if summary else set()
    for name, imports in scope.imports.items():
        for imported in imports if name not in used and name in names else ():
            module = imported.loads or scope.absolute_module(imported)
            if module.partition(".")[0] not in FRAMEWORK and origin_of_module(module) == "third-party":
                yield module
