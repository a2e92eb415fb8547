"""Runtime state that source text does not show: attributes of classes, and settings that modules make in libraries."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from abc import _get_dump  # type: ignore[attr-defined]
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

import msgspec

from airflow_zen.caching.code.calls import is_lookup
from airflow_zen.caching.code.distributions import FRAMEWORK, MISSING, origin_of_module, unwrap_callable
from airflow_zen.caching.code.names import MODULE_ATTRIBUTES, Scope
from airflow_zen.caching.code.source import (
    SourceFile,
    closure_variables,
    function_definition,
    origin_of_function,
    source_file,
)
from airflow_zen.caching.code.summary import Definition, Import, Part, Reference, Summary, constant_text
from airflow_zen.errors import FingerprintError
from airflow_zen.instance_parts import instance_attributes

_HEAP_TYPE = 1 << 9
# What Python and libraries derive from the text of a class, its bases and its decorators.
_DERIVED = {
    "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__", "__attrs_attrs__",
    "__attrs_own_setattr__", "__attrs_props__", "__dataclass_fields__", "__dataclass_params__", "__dict__", "__doc__",
    "__firstlineno__", "__hash__", "__match_args__", "__module__", "__orig_bases__", "__parameters__", "__qualname__",
    "__signature__", "__slotnames__", "__slots__", "__static_attributes__", "__type_params__", "__weakref__", "_abc_impl", "__private_attributes__",
    "__protocol_attrs__", "__non_callable_proto_members__", "__class_vars__",
}  # fmt: skip
_DERIVED_PREFIXES = ("__pydantic_", "__struct_")
_MARKERS = ("__isabstractmethod__", "__wrapped__")
# Packages whose calls set no state on which a result depends.
_HARMLESS = {
    "airflow", "airflow_zen", "atexit", "dotenv", "faulthandler", "logging", "loguru", "mlflow", "rich", "signal",
    "structlog", "warnings",
}  # fmt: skip
_SETTER = r".*\.(set|seed|manual_seed|enable|disable|register|use|update|patch|install)(_\w+|[a-z]*)|builtins\.setattr"


class ClassSource(msgspec.Struct, frozen=True):
    """The text of a class, and the names visible to its methods.

    There are several definitions if branches define the class and it is unknown which one is active: all its attributes
    then count by their values.
    """

    source: SourceFile
    definitions: tuple[Definition, ...]
    globals: Mapping[str, Any]
    cells: Mapping[str, Any]

    def runtime_values(self, cls: type) -> Iterator[tuple[str, Any]]:
        """Yield each attribute, and each part of a field, whose current value the text does not show."""
        literals = self.definitions[0].literals if len(self.definitions) == 1 else {}
        is_enum = hasattr(cls, "__members__")
        for name, value in sorted(vars(cls).items()):
            if name in _DERIVED or name.startswith(_DERIVED_PREFIXES) or (is_enum and name[0] == name[-1] == "_"):
                continue
            if isinstance(value, MemberDescriptorType | GetSetDescriptorType) or self._is_generated(cls, name, value):
                continue
            if literals.get(name) != constant_text(value) and not self._is_written_method(cls, name, value):
                yield name, value
        if registered := _virtual_subclasses(cls):
            yield "register()", registered
        for name, value in _field_values(cls):
            if literals.get(name.partition(".")[0]) != constant_text(value):
                yield name, value

    def is_written(self, name: str) -> bool:
        """Whether a statement in the body of the class assigns an attribute."""
        return any(name in each.literals for each in self.definitions)

    def _is_generated(self, cls: type, name: str, value: Any) -> bool:
        """Whether a method was made from the fields of the class: those of dataclasses and attrs have no file."""
        has_fields = {"__dataclass_fields__", "__attrs_attrs__", "_field_defaults"} & vars(cls).keys()
        inner = _underlying_function(value) if has_fields and name.startswith("__") else None
        return isinstance(inner, FunctionType) and inner.__code__.co_filename.startswith(("<string", "<attrs"))

    def _is_written_method(self, cls: type, name: str, value: Any) -> bool:
        """Whether an attribute is exactly the method that the text of the class defines under that name."""
        functions = descriptor_functions(value)
        if len(self.definitions) > 1 or not functions:
            return False
        return all(isinstance(each, FunctionType) and self._is_as_written(cls, name, each) for each in functions)

    def _is_as_written(self, cls: type, name: str, function: FunctionType) -> bool:
        code = function.__code__
        if code.co_filename != self.source.path or code.co_qualname != f"{cls.__qualname__}.{name}":
            return False
        definition = function_definition(function)[1]
        among = self.source.find_definitions(definition.qualname)
        is_alone = sum(self._contains(each) for each in among) == 1 and self._contains(definition)
        return is_alone and not written_defaults(function, definition) and not function_attributes(function)

    def _contains(self, definition: Definition) -> bool:
        begin, end = self.definitions[0].first_line, self.definitions[0].last_line
        return begin <= definition.first_line <= end


def written_defaults(function: FunctionType, definition: Definition) -> dict[str, Any]:
    """Return the defaults of a function whose values its text does not show."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount][::-1]
    values = dict(zip(names, (function.__defaults__ or ())[::-1], strict=False)) | (function.__kwdefaults__ or {})
    return {
        name: value for name, value in sorted(values.items()) if definition.literals.get(name) != constant_text(value)
    }


def function_attributes(function: FunctionType) -> dict[str, Any]:
    """Return the attributes that were set on a function."""
    return {name: value for name, value in sorted(vars(function).items()) if name not in _MARKERS}


def class_source(cls: type) -> ClassSource | None:
    """Return the text of a class; None for a class made by a call.

    Raises `FingerprintError` if its file was edited after it was loaded, or if it is unknown which text is active.
    """
    methods = [each for each in map(_underlying_function, vars(cls).values()) if each is not None]
    module = sys.modules.get(cls.__module__)
    names = vars(module) if module else methods[0].__globals__ if methods else {}
    own = [
        each for each in methods if each.__globals__ is names and not each.__code__.co_filename.startswith("<string")
    ]
    path = names.get("__file__") or next((each.__code__.co_filename for each in own), None)
    source = source_file(path, names) if path else None
    found = source.find_classes(cls.__qualname__) if source else []
    if source is None or not found:
        return None
    written = [each for each in own if each.__code__.co_filename == source.path]
    lines = [function_definition(each)[1].first_line for each in written if _is_member(cls, each)]
    cells = {name: value for each in written for name, value in closure_variables(each).items() if value is not MISSING}
    return ClassSource(source, tuple(_in_force(cls, found, lines)), names, cells)


def _is_member(cls: type, function: FunctionType) -> bool:
    return function.__code__.co_qualname == f"{cls.__qualname__}.{function.__code__.co_name}"


def _in_force(cls: type, found: list[Definition], lines: list[int]) -> list[Definition]:
    """Return the definitions of a class that contain its methods, or all definitions if it has none."""
    first = vars(cls).get("__firstlineno__")
    inside = [each for each in found if any(each.first_line <= line <= each.last_line for line in lines)]
    inside = [each for each in found if each.first_line == first] or inside or found
    if len({tuple(decorator.part.digest for decorator in each.decorators) for each in inside}) > 1:
        raise FingerprintError(
            f"Several class statements define {cls.__qualname__!r}, and nothing tells which is in force. "
            "Give each class its own name, and assign the one to use, or set cache=False."
        )
    return inside


def is_made_by_bases(cls: type, value: Any) -> bool:
    """Whether a value of a class is of the library of one of its bases, or of its metaclass, which may have made it."""
    libraries = {each.__module__.partition(".")[0] for each in (*cls.__mro__, type(cls))}
    return type(value).__module__.partition(".")[0] in libraries


def _field_values(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class holds of its fields: defaults, factories and options of each."""
    held = vars(cls)
    for name, field in held.get("__dataclass_fields__", {}).items():
        options = {part: getattr(field, part) for part in ("default", "default_factory", "metadata")}
        yield from ((f"{name}.{part}", value) for part, value in options.items() if _is_given(value))
    if params := held.get("__dataclass_params__"):
        yield "dataclass", repr(params)
    for field in held.get("__attrs_attrs__", ()):
        options = {part: getattr(field, part) for part in ("default", "validator", "converter", "metadata")}
        yield from ((f"{field.name}.{part}", value) for part, value in options.items() if _is_given(value))
    for name, field in held.get("__pydantic_fields__", {}).items():
        options = {part: value for part, value in field._attributes_set.items() if part != "annotation"}  # noqa: SLF001
        yield from ((f"{name}.{part}", value) for part, value in options.items())
        yield from ((f"{name}.constraint", value) for value in field.metadata)
    for name, private in held.get("__private_attributes__", {}).items():
        yield from ((f"{name}.{part}", getattr(private, part)) for part in ("default", "default_factory"))
    names: tuple[str, ...] = getattr(cls, "__struct_fields__", ())
    yield from zip(names[::-1], getattr(cls, "__struct_defaults__", ())[::-1], strict=False)


def _virtual_subclasses(cls: type) -> list[type]:
    """Return the classes that were registered with an abstract base class, by their names."""
    held = _get_dump(cls)[0] if "_abc_impl" in vars(cls) else ()
    alive = [found for reference in held if (found := reference()) is not None]
    return sorted(alive, key=lambda found: (found.__module__, found.__qualname__))


def _is_given(value: Any) -> bool:
    """Whether an option of a field was given: sentinels and empty mappings stand for none."""
    return (
        value is not None
        and value is not dataclasses.MISSING
        and getattr(value, "name", "") != "NOTHING"
        and value != {}
    )


def _underlying_function(value: Any) -> FunctionType | None:
    """Return the function behind a method of any kind."""
    value = unwrap_callable((*descriptor_functions(value), value)[0])
    return value if isinstance(value, FunctionType) else None


def dynamic_class_contents(cls: type) -> dict[str, Any]:
    """Return the contents of a class that was made by a call, such as a namedtuple."""
    return {name: each for name, each in vars(cls).items() if _is_content(cls, name, each)}


def _is_content(cls: type, name: str, value: Any) -> bool:
    if isinstance(value, FunctionType | classmethod | staticmethod | property):
        inner = _underlying_function(value)
        if inner is None or inner.__code__.co_filename.startswith("<"):
            return False
        return origin_of_function(inner) == "project"
    if name.startswith("__") or (name.startswith("_") and hasattr(cls, "__members__")):
        return False
    is_builtin = type(value).__module__ in ("builtins", "collections", "_collections")
    return not (is_builtin and hasattr(type(value), "__get__"))


def instance_contents(value: Any) -> Any:
    """Return all contents of an instance of a project's class, or None if part of it is hidden in C."""
    cls = type(value)
    if not all(base.__flags__ & _HEAP_TYPE or base in (object, Exception, BaseException) for base in cls.__mro__):
        return None
    arguments = value.args if isinstance(value, BaseException) else ()
    return arguments, instance_attributes(value)


def descriptor_functions(value: Any) -> tuple[Any, ...]:
    """Return a function, or those behind a static or class method, a property or a cached property."""
    if isinstance(value, FunctionType):
        return (value,)
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    if isinstance(value, property):
        return tuple(each for each in (value.fget, value.fset, value.fdel) if each)
    if isinstance(value, functools.singledispatchmethod):
        return (value.dispatcher,)
    return (value.func,) if isinstance(value, functools.cached_property) else ()


def loaded_modules(started: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the namespaces of project modules, and of those that they import at their top level, directly or not."""
    pending, found = list(started), dict[int, Mapping[str, Any]]()
    for names in pending:
        if id(names) not in found:
            found[id(names)] = names
            scope = module_scope(names)
            pending += imported_modules(
                [Import(str(names.get("__name__", ""))), *chain(*scope.imports.values())], scope
            )
    return sorted(found.values(), key=lambda names: str(names.get("__name__", "")))


def imported_modules(imports: Iterable[Import], scope: Scope) -> Iterator[Mapping[str, Any]]:
    """Yield the namespaces of the project modules that imports load, and of the packages around them."""
    for name in {name for each in imports for name in _candidates(each, scope)}:
        parts = name.split(".")
        above = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        yield from (vars(sys.modules[each]) for each in above if _is_loaded(each))


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
    """Return a part with all the names of a module, except for what Python or Cython sets and what looks code up."""
    unread = {*MODULE_ATTRIBUTES, "__doc__", *(name for name in names if name.startswith("__pyx_"))}
    held = sorted(name for name, value in names.items() if not (name in unread or is_lookup(value)))
    return Part("", tuple(Reference((name,)) for name in held))


def module_scope(names: Mapping[str, Any]) -> Scope:
    """Return the scope of a module's top level."""
    summary = _summary(names)
    return Scope(names, summary.imports if summary else {})


def state_parts(names: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the top-level statements of a module that may change the state of a library, and registered objects."""
    summary, scope = _summary(names), module_scope(names)
    for effect in summary.effects if summary else ():
        references = (Reference(effect.target),) if effect.target else effect.part.references
        is_builtin = effect.target[:1] == ("builtins",)
        if is_builtin or any(_changes_state(reference, scope) for reference in references):
            yield effect.part
    for definition in summary.definitions if summary else ():
        for decorator in definition.decorators:
            if decorator.chain and any(map(_is_registration, _paths(Reference(decorator.chain), scope))):
                yield from (decorator.part, definition.code)


def _paths(reference: Reference, scope: Scope) -> Iterator[str]:
    return (resolved.path for resolved in scope.resolve(reference) if resolved.path)


def _is_registration(path: str) -> bool:
    name = path.rpartition(".")[2]
    return name == "register" or name.startswith("register_")


def _is_harmless(path: str) -> bool:
    package = path.partition(".")[0]
    if package == "builtins":
        return path not in ("builtins.setattr", "builtins.delattr")
    return package in _HARMLESS or path == "sys.path" or path.startswith("sys.path.")


def _changes_state(reference: Reference, scope: Scope) -> bool:
    """Whether a statement that calls or sets this changes a library, itself or in a function of the project."""
    for resolved in scope.resolve(reference):
        if resolved.path and not _is_harmless(resolved.path):
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
    paths = (path for reference in definition.code.references for path in _paths(reference, scope))
    return any(re.fullmatch(_SETTER, path) and not _is_harmless(path) for path in paths)


def _all_references(summary: Summary) -> Iterator[Reference]:
    """Yield every reference of a file, those in annotations too."""
    yield from summary.code.references
    for definition in summary.definitions:
        yield from definition.annotations.references
        yield from definition.parameter_types


def unused_imports(names: Mapping[str, Any]) -> Iterator[str]:
    """Yield the library modules that a module imports under unused names, possibly for their side effects."""
    summary, scope = _summary(names), module_scope(names)
    used = {reference.chain[0] for reference in _all_references(summary)} if summary else set()
    for name, imports in scope.imports.items():
        for imported in imports if name not in used and name in names else ():
            module = imported.loads or scope.absolute_module(imported)
            if module.partition(".")[0] not in FRAMEWORK and origin_of_module(module) == "third-party":
                yield module
