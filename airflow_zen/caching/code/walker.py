"""The visitor of everything that a function reaches: each value is visited once, in the order of the code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from airflow_zen.caching.code.calls import (
    check_lookup,
    check_path,
    check_text,
    is_context_getter,
    looked_up,
    reads_docstrings,
)
from airflow_zen.caching.code.distributions import (
    MISSING,
    distribution_pin,
    importable_name,
    is_compiled,
    is_framework_object,
    is_inert,
    module_file,
    origin_of_module,
    unwrap_callable,
    wrapped_callable,
)
from airflow_zen.caching.code.names import (
    MODULE_ATTRIBUTES,
    LabelRegistry,
    ResolvedName,
    Scope,
    check_decorators,
    check_options,
    kept_decorators,
    module_label,
    scope_of,
    without_checkout,
)
from airflow_zen.caching.code.source import SourceFile, cell_value, function_definition, origin_of_function, source_file
from airflow_zen.caching.code.state import (
    class_source,
    descriptor_functions,
    dynamic_class_contents,
    function_attributes,
    held_names,
    imported_modules,
    instance_contents,
    is_made_by_bases,
    loaded_modules,
    module_scope,
    module_source,
    state_parts,
    unused_imports,
    written_defaults,
)
from airflow_zen.caching.code.summary import Part, Reference, query_names
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import FingerprintFallback, fingerprint, frame
from airflow_zen.type_names import stable_class_name

if TYPE_CHECKING:
    from airflow_zen.caching.code.task_context import ContextPath


class DependencyWalker(LabelRegistry):
    """Visits all values that the code reaches, and collects ingredients."""

    def __init__(self, root: Callable[..., Any], fallback: FingerprintFallback | None) -> None:
        self.caller_fallback = fallback
        self.source_folder = ""
        self.calls: set[tuple[str, bool]] = set()
        self.modules: dict[int, Mapping[str, Any]] = {}
        self.docs: dict[str, list[str]] = {}
        self.reads_docs = False
        self.context: set[ContextPath] = set()
        self._context_getters: set[tuple[str, ...]] = set()
        self._external: set[str] = set()
        self._lines: dict[tuple[int, str, Reference], list[str]] = {}
        self._active: dict[int, int] = {}
        innermost = unwrap_callable(root)
        self.innermost = innermost if isinstance(innermost, FunctionType) else None
        super().__init__(module_label(innermost.__globals__) if self.innermost else "")

    def add_value(self, label: str, value: Any, what: str) -> None:
        """Add a value, and reach the code and the classes in it; `what` names it in errors."""
        try:
            self.ingredients[label] = self.fingerprint(value)
        except FingerprintError as error:
            raise FingerprintError(f"{what}: {error}") from error

    def add_module_states(self) -> None:
        """Add the changes that the code's modules make to libraries when they are loaded."""
        for names in loaded_modules(self.modules.values()):
            for module in unused_imports(names):
                self.label_external(module, module)
            if parts := list(state_parts(names)):
                scope, source = module_scope(names), module_source(names)
                lines = self._reference_lines(parts, scope, source)
                self._add_source(self.unique_label("module", module_label(names), "state", names), "", parts, lines)

    def fingerprint(self, value: Any) -> str:
        """Fingerprint a value, and reach the code and the classes in it."""
        return fingerprint(value, self._fingerprint_fallback, self.label_class, self._active)

    def _fingerprint_fallback(self, value: Any) -> str | None:
        """Fingerprint a value inside a value: code by what it reaches, a project's instance by its contents."""
        if (code := self._label_code(value)) is not None:
            return f"code {code}"
        if type(value) is object:
            return "object"
        content = instance_contents(value) if origin_of_module(type(value).__module__) == "project" else None
        if content is not None:
            return self.fingerprint(content)
        return self.caller_fallback(value) if self.caller_fallback else None

    def label_value(self, value: Any, qualified_name: str) -> str:
        """Return the label of a value: its code, or the constant at `qualified_name`."""
        return self._label_code(value) or self._label_constant(value, qualified_name)

    def _label_code(self, value: Any) -> str | None:
        """Return the label of code, of a module or of an inert value; None for any other."""
        if isinstance(value, type):
            return self.label_class(value)
        if isinstance(value, FunctionType):
            return self._label_function(value)
        if isinstance(value, ModuleType):
            if origin_of_module(value.__name__, vars(value).get("__file__")) != "project":
                return self.label_external(value.__name__, value.__name__)
            return self.visit_once("module", module_label(vars(value)), "", value, self.visit_module)
        if isinstance(value, MethodType):
            owner = self.label_value(value.__self__, f"{self.root_module}.self")
            return f"{self.label_value(value.__func__, 'method')} of {owner}"
        if is_inert(value):
            return "nothing"
        if inner := descriptor_functions(value):
            return " ".join(self.label_value(each, "descriptor") for each in inner)
        return self._label_wrapper(value) or self._label_importable(value)

    def _label_function(self, function: FunctionType) -> str:
        if origin_of_function(function) == "project":
            # functools.wraps copies __qualname__; the code object keeps its own.
            module, name = module_label(function.__globals__), function.__code__.co_qualname
            return self.visit_once("function", module, name, function, self.visit_function)
        if wrapper := self._label_wrapper(function):
            return wrapper
        if (named := importable_name(function)) and origin_of_module(named[0]) != "project":
            return self.label_external(".".join(named), named[0])
        module = str(function.__globals__.get("__name__", ""))
        path = self.label_external(f"{module}.{function.__code__.co_name}", module)
        return f"{path} holding {self._fingerprint_closure(function)}"

    def _fingerprint_closure(self, function: FunctionType) -> str:
        """Fingerprint a function made by a library's call by the values in its closure."""
        cells = [cell_value(cell) for cell in function.__closure__ or ()]
        return self.fingerprint((cells, function.__defaults__, function.__kwdefaults__))

    def _label_wrapper(self, value: Any) -> str | None:
        if (wrapped := wrapped_callable(value)) is None:
            return None
        inside = self.label_value(wrapped, f"{self.root_module}.wrapped")
        if is_framework_object(value):
            return inside
        module = str(value.__globals__["__name__"]) if isinstance(value, FunctionType) else type(value).__module__
        registered = getattr(value, "registry", {}).items() if hasattr(value, "dispatch") else ()
        cases = (f"{self.label_class(kind)}: {self.label_value(case, 'case')}" for kind, case in registered)
        inner = sorted({inside, *cases})
        label = self.label_external(module, module)
        return f"{label} around {' '.join([*inner, *self._label_wrapper_options(value, module)])}"

    def _label_wrapper_options(self, wrapper: Any, module: str) -> list[str]:
        """Fingerprint the options of a wrapper that is not applied by a decorator in the source."""
        inner = unwrap_callable(wrapper)
        if module == "functools" or not isinstance(inner, FunctionType) or origin_of_function(inner) != "project":
            return []
        source, definition = function_definition(inner)
        if definition.decorators:
            check_options(definition, scope_of(inner, source, inner.__qualname__), source.summary.rebound)
            return []
        if not isinstance(wrapper, FunctionType):
            raise FingerprintError(
                f"{inner.__qualname__!r} is wrapped by a call to {module}, whose options cannot be seen. "
                "Wrap it with a decorator, or set cache=False."
            )
        return [f"holding {self._fingerprint_closure(wrapper)}"]

    def _label_importable(self, value: Any) -> str | None:
        named = importable_name(value) if callable(value) else None
        if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | type(None)):
            named = None
        if named and (label := self._label_binary(*named)):
            return label
        module = type(value).__module__
        if named and (module == "builtins" or "cython" in module):
            raise FingerprintError(f"{'.'.join(named)} is compiled into a file that is not found. Set cache=False.")
        is_typing_name = module == "typing" and hasattr(value, "__name__") and not hasattr(value, "__args__")
        return f"typing {value.__name__}" if is_typing_name else None

    def label_class(self, cls: type) -> str:
        """Return the label of a class, which is then visited."""
        if label := self._label_binary(cls.__module__, cls.__qualname__):
            return label
        module, _, _ = stable_class_name(cls).partition(f".{cls.__qualname__}")
        return self.visit_once("class", module, cls.__qualname__, cls, self.visit_class)

    def _label_binary(self, module: str, name: str) -> str | None:
        """Return the label of an object of a library or of a project's extension module; None for any other."""
        if origin_of_module(module) != "project":
            return self.label_external(f"{module}.{name}", module)
        return f"{name} of {self._label_code(sys.modules[module])}" if is_compiled(module_file(module)) else None

    def label_external(self, path: str, module: str) -> str:
        """Return the path of an external object, and add its distribution."""
        if path in self._external:
            return path
        check_lookup(path)
        check_path(path)
        self._external.add(path)
        if module and origin_of_module(module) == "third-party" and module.partition(".")[0] != "airflow_zen":
            self.ingredients.update([distribution_pin(module)])
        return path

    def _label_constant(self, value: Any, qualified_name: str) -> str:
        label = self.unique_label("constant", *qualified_name.rpartition(".")[::2], value)
        if label not in self.ingredients:
            self.add_value(label, without_checkout(value, self.source_folder), f"{label}, which the step's code reads")
        return label

    def visit_function(self, label: str, function: FunctionType) -> None:
        """Add a function's text, the targets of its names, and its defaults."""
        source, definition = function_definition(function)
        scope = scope_of(function, source, label.partition(" ")[2])
        decorators = kept_decorators(definition, scope)
        parts = [*(each.part for each in decorators), definition.code]
        if any(each.reads_annotations for each in decorators):
            parts.append(definition.annotations)
        if "<locals>" in definition.qualname:
            check_decorators(decorators, scope)
        lines = self._reference_lines(parts, scope, source)
        held = [("default", *item) for item in written_defaults(function, definition).items()]
        held += [("attribute", *item) for item in function_attributes(function).items()]
        lines += [f"{what} {name}: {self.label_value(value, f'{scope.label}.{name}')}" for what, name, value in held]
        wrapped = wrapped_callable(function)
        lines += [f"wraps {self.label_value(wrapped, 'wrapped')}"] if wrapped else []
        self.docs[label] = [definition.doc]
        parts += [Part(definition.doc)] if any(map(scope.is_of_library, decorators)) else []
        self._add_source(label, source.text_of(definition), parts, lines)
        # The step calls methods of the classes that its parameters declare.
        for reference in definition.parameter_types if function is self.innermost else ():
            for resolved in scope.resolve(reference):
                if resolved.path or isinstance(resolved.value, type):
                    self._label_reference(reference, resolved)

    def visit_class(self, label: str, cls: type) -> None:
        """Add a class's text, the targets of its names, its bases and its attributes."""
        if (found := class_source(cls)) is None:
            self._visit_dynamic_class(label, cls)
            return
        scope = Scope(found.globals, found.source.summary.imports, found.cells, label.partition(" ")[2])
        parts = [
            part
            for each in found.definitions
            for part in (*(one.part for one in kept_decorators(each, scope)), each.code)
        ]
        lines = self._reference_lines(parts, scope, found.source)
        lines += [f"base {self.label_class(base)}" for base in cls.__bases__ if base is not object]
        lines += [f"metaclass {self.label_class(type(cls))}"] if type(cls) is not type else []
        for name, value in found.runtime_values(cls):
            try:
                lines.append(f"{name}: {self.label_value(value, f'{scope.label}.{name}')}")
            except FingerprintError:
                # A descriptor or marker of a library: the text says how it was made.
                is_of_library = origin_of_module(type(value).__module__) == "third-party"
                if not (is_of_library and (found.is_written(name) or is_made_by_bases(cls, value))):
                    raise
        self.docs[label] = [each.doc for each in found.definitions]
        # A metaclass of a library may read the docstring: it is the description in a schema, or a prompt.
        parts += map(Part, self.docs[label]) if origin_of_module(type(cls).__module__) == "third-party" else []
        self._add_source(label, "\n".join(map(found.source.text_of, found.definitions)), parts, lines)

    def _visit_dynamic_class(self, label: str, cls: type) -> None:
        """Fingerprint a class that was made by a call, such as a namedtuple, by its contents."""
        if hasattr(cls, "__pydantic_fields__"):
            raise FingerprintError(f"{label} was made by a call. Write it as a class, or set cache=False.")
        bases = [self.label_class(base) for base in cls.__bases__]
        self.ingredients[label] = self.fingerprint(
            (bases, dynamic_class_contents(cls), vars(cls).get("__annotations__"))
        )

    def visit_module(self, label: str, module: ModuleType) -> None:
        """Add a module that is used as a value."""
        names, file = vars(module), vars(module).get("__file__") or ""
        source = source_file(file, names)
        parts = [source.summary.code] if source else []
        if is_compiled(file):
            parts = [Part(sha256(Path(file).read_bytes()).hexdigest())]
        elif source is None and (file or "__path__" not in names):
            raise FingerprintError(f"{label} has no source. Set cache=False.")
        lines = self._reference_lines([*parts, held_names(names)], module_scope(names), source)
        self._add_source(label, source.text if source else "", parts, lines)

    def _add_source(self, label: str, text: str, parts: list[Part], lines: list[str]) -> None:
        check_text(text)
        if getters := self._context_getters.intersection(each.chain for part in parts for each in part.references):
            # Loaded only where a step reads the context.
            from airflow_zen.caching.code.task_context import context_reads

            self.context |= context_reads(text, getters)
        self.reads_docs |= reads_docstrings(text)
        self.sources[label] = "\n".join([text, *(f"# {line}" for line in lines)])
        said = (each.encode("utf-8", "surrogatepass") for each in (*(part.digest for part in parts), "", *lines))
        self.ingredients[label] = sha256(frame("code", *said)).hexdigest()

    def _reference_lines(self, parts: Iterable[Part], scope: Scope, source: SourceFile | None) -> list[str]:
        """Reach every name in parts of a file, and return the target of each."""
        self.source_folder = source.folder if source else ""
        self.modules[id(scope.globals)] = scope.globals
        lines: set[str] = set()
        for reference in sorted({each for part in parts for each in part.references}):
            lines.update(self._lines_of(reference, scope))
        return sorted(lines)

    def _lines_of(self, reference: Reference, scope: Scope) -> list[str]:
        owner = scope.label if reference.chain[0] in scope.cells else ""
        key = id(scope.globals), owner, reference
        if key not in self._lines:
            lines = self._lines[key] = []
            resolved = list(scope.resolve(reference))
            if reference.imports:
                self.modules |= {id(names): names for names in imported_modules(reference.imports, scope)}
            for each in (found for one in resolved for found in looked_up(reference, one, scope)):
                if label := self._label_reference(reference, each):
                    lines.append(f"{'.'.join(reference.chain)}: {label}")
                # A constant may be a query that pandas runs here.
                for name in query_names(each.value):
                    lines += self._lines_of(Reference(name), scope)
        return self._lines[key]

    def _label_reference(self, reference: Reference, resolved: ResolvedName) -> str:
        if resolved.path:
            self.calls.add((resolved.path, reference.has_argument))
            if is_context_getter(resolved.path):
                self._context_getters.add(reference.chain)
                return ""
            return "" if resolved.module == "builtins" else self.label_external(resolved.path, resolved.module)
        if resolved.value is MISSING:
            return "missing"
        if resolved.qualified_name.rpartition(".")[2] in MODULE_ATTRIBUTES:
            return ""
        target = self.label_value(resolved.value, resolved.qualified_name)
        self.calls.add((".".join((target, *resolved.unresolved)), reference.has_argument))
        return target + self._label_attribute(resolved)

    def _label_attribute(self, resolved: ResolvedName) -> str:
        """Follow an attribute of a function or instance, which may be a value or a clock."""
        name = resolved.unresolved[0] if resolved.unresolved else "__"
        held = getattr(resolved.value, "__dict__", {}) if callable(resolved.value) else {}
        if name.startswith("__") or name not in held or isinstance(resolved.value, type):
            return ""
        value = held[name]
        if isinstance(value, FunctionType) and origin_of_function(value) != "project":
            return ""
        return f" {self.label_value(value, f'{resolved.qualified_name}.{name}')}"
