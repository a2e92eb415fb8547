"""Labels of everything that code refers to, and the list of what is still to be visited."""

from __future__ import annotations

import functools
import operator
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from airflow_zen.caching.code.distributions import distribution_pin, origin_of_module
from airflow_zen.caching.code.objects import (
    cell_value,
    descriptor_functions,
    function_source,
    importable_name,
    instance_contents,
    is_framework_object,
    is_inert,
    origin_of_function,
    unwrap_callable,
    wrapped_callable,
)
from airflow_zen.caching.code.scope import module_label
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import FingerprintFallback, fingerprint
from airflow_zen.type_names import stable_class_name

_REDUCIBLE = (operator.itemgetter, operator.attrgetter, operator.methodcaller)


class IngredientCollector(ABC):
    """Collects the ingredients of everything reached: each thing once, in an order that the code decides."""

    def __init__(self, root: Callable[..., Any], fallback: FingerprintFallback | None) -> None:
        self.root = root
        self.caller_fallback = fallback
        self.ingredients: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.source_folder = ""
        self.calls: set[tuple[str, bool]] = set()
        # The things themselves are kept, so that no id is used again.
        self._labels: dict[tuple[str, int], tuple[str, Any]] = {}
        self._pending: deque[Callable[[], None]] = deque()
        innermost = unwrap_callable(root)
        self.innermost = innermost if isinstance(innermost, FunctionType) else None
        self._root_module = module_label(innermost.__globals__) if self.innermost else ""

    def visit_root(self) -> None:
        """Reach everything from the root."""
        self.label_value(self.root, f"{self._root_module}.{getattr(self.root, '__name__', 'step')}")
        self.visit_pending()

    def visit_pending(self) -> None:
        """Visit everything that was labeled and not yet visited."""
        while self._pending:
            self._pending.popleft()()

    @abstractmethod
    def visit_function(self, label: str, function: FunctionType) -> None:
        """Add what a function contributes."""

    @abstractmethod
    def visit_class(self, label: str, cls: type) -> None:
        """Add what a class contributes."""

    @abstractmethod
    def visit_module(self, label: str, module: ModuleType) -> None:
        """Add what a whole module contributes."""

    def fingerprint(self, value: Any) -> str:
        """Fingerprint a value, and reach the code and the classes in it."""
        return fingerprint(value, self._fingerprint_fallback, self.label_class)

    def _fingerprint_fallback(self, value: Any) -> str | None:
        """Fingerprint a value inside a value: code by what it reaches, a project's instance by its contents."""
        code = self._label_code(value)
        if code is not None:
            return f"code {code}"
        if type(value) is object:
            return "object"
        if isinstance(value, functools.partial):
            return self.fingerprint((value.func, value.args, value.keywords))
        if isinstance(value, _REDUCIBLE):
            return self.fingerprint(value.__reduce__()[1:])
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
            return self._label_module(value)
        if isinstance(value, MethodType):
            owner = self.label_value(value.__self__, f"{self._root_module}.self")
            return f"{self.label_value(value.__func__, 'method')} of {owner}"
        if is_inert(value):
            return "nothing"
        inner = descriptor_functions(value)
        if inner:
            return " ".join(self.label_value(each, "descriptor") for each in inner)
        return self._label_wrapper(value) or self._label_importable(value)

    def _label_function(self, function: FunctionType) -> str:
        if origin_of_function(function) == "project":
            # functools.wraps copies __qualname__; the code object keeps its own.
            name = getattr(function.__code__, "co_qualname", function.__qualname__)
            return self._visit_once("function", module_label(function.__globals__), name, function, self.visit_function)
        if wrapper := self._label_wrapper(function):
            return wrapper
        named = importable_name(function)
        if named and origin_of_module(named[0]) != "project":
            return self.label_external(".".join(named), named[0])
        module = str(function.__globals__.get("__name__", ""))
        path = self.label_external(f"{module}.{function.__code__.co_name}", module)
        return f"{path} holding {self._fingerprint_closure(function)}"

    def _fingerprint_closure(self, function: FunctionType) -> str:
        """Fingerprint a function that a library's call made by all it closes over."""
        cells = [cell_value(cell) for cell in function.__closure__ or ()]
        return self.fingerprint((cells, function.__defaults__, function.__kwdefaults__))

    def _label_wrapper(self, value: Any) -> str | None:
        wrapped = wrapped_callable(value)
        if wrapped is None:
            return None
        inside = self.label_value(wrapped, f"{self._root_module}.wrapped")
        if is_framework_object(value):
            return inside
        module = str(value.__globals__["__name__"]) if isinstance(value, FunctionType) else type(value).__module__
        cases = getattr(value, "registry", {}).values() if hasattr(value, "dispatch") else ()
        inner = sorted({inside, *(self.label_value(each, "case") for each in cases)})
        label = self.label_external(module, module)
        return f"{label} around {' '.join([*inner, *self._label_wrapper_options(value, module)])}"

    def _label_wrapper_options(self, wrapper: Any, module: str) -> list[str]:
        """Fingerprint the options of a wrapper that no decorator in the source shows."""
        inner = unwrap_callable(wrapper)
        if module == "functools" or not isinstance(inner, FunctionType) or origin_of_function(inner) != "project":
            return []
        if getattr(function_source(inner).find_function(inner.__code__).node, "decorator_list", []):
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
        if named and origin_of_module(named[0]) != "project":
            return self.label_external(".".join(named), named[0])
        module = type(value).__module__
        if named and (module == "builtins" or "cython" in module):
            raise FingerprintError(
                f"{'.'.join(named)} is compiled and belongs to no distribution. Install it as one, or set cache=False."
            )
        is_typing_name = module == "typing" and hasattr(value, "__name__") and not hasattr(value, "__args__")
        return f"typing {value.__name__}" if is_typing_name else None

    def label_class(self, cls: type) -> str:
        """Return the label of a class, which is then visited."""
        if origin_of_module(cls.__module__) != "project":
            return self.label_external(f"{cls.__module__}.{cls.__qualname__}", cls.__module__)
        module, _, _ = stable_class_name(cls).partition(f".{cls.__qualname__}")
        return self._visit_once("class", module, cls.__qualname__, cls, self.visit_class)

    def _label_module(self, module: ModuleType) -> str:
        if origin_of_module(module.__name__, vars(module).get("__file__")) != "project":
            return self.label_external(module.__name__, module.__name__)
        return self._visit_once("module", module_label(vars(module)), "", module, self.visit_module)

    def label_external(self, path: str, module: str) -> str:
        """Return the path of something outside the project, and add its distribution."""
        if module and origin_of_module(module) == "third-party" and module.partition(".")[0] != "airflow_zen":
            label, version = distribution_pin(module)
            self.ingredients[label] = version
        return path

    def _label_constant(self, value: Any, qualified_name: str) -> str:
        label = self._unique_label("constant", *qualified_name.rpartition(".")[::2], value)
        if label not in self.ingredients:
            try:
                self.ingredients[label] = self.fingerprint(_without_source_folder(value, self.source_folder))
            except FingerprintError as error:
                raise FingerprintError(f"{label}, which the step's code reads: {error}") from error
        return label

    def _visit_once(self, kind: str, module: str, qualname: str, thing: Any, visit: Callable[[str, Any], None]) -> str:
        known = len(self._labels)
        label = self._unique_label(kind, module, qualname, thing)
        if len(self._labels) > known:
            self._pending.append(lambda: visit(label, thing))
        return label

    def _unique_label(self, kind: str, module: str, qualname: str, thing: Any) -> str:
        """Label a thing once; the root's own module is left out, so that a copied DAG file keeps its keys."""
        parts = ("" if module == self._root_module and qualname else module, qualname)
        label = f"{kind} {'.'.join(filter(None, parts))}"
        key = label, id(thing)
        if key not in self._labels:
            others = sum(1 for known, _ in self._labels if known == label)
            self._labels[key] = f"{label} #{others + 1}" if others else label, thing
        return self._labels[key][0]


def _without_source_folder(value: Any, folder: str) -> Any:
    """Remove the checkout's own path from a path below it, such as `Path(__file__).parent`."""
    if not folder or not isinstance(value, str | PurePath):
        return value
    text = str(value)
    return ("beside the code", text[len(folder) :]) if text == folder or text.startswith(folder + os.sep) else value
