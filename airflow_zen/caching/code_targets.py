"""What each thing that code refers to is called in a key, and the promise that it is visited."""

from __future__ import annotations

import functools
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from airflow_zen.caching.code_function import content_of, module_of, own_qualname, owner_of_code, source_of_function
from airflow_zen.caching.code_values import (
    code_inside,
    importable_name,
    inside_descriptor,
    instance_content,
    is_of_framework,
    is_without_effect,
    wrapped_by,
)
from airflow_zen.caching.distributions import owner_of, requirement
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import Other, fingerprint
from airflow_zen.labels import class_label

_REDUCIBLE = (operator.itemgetter, operator.attrgetter, operator.methodcaller)


class Targets(ABC):
    """Collects the ingredients of everything reached: each thing once, in an order that the code decides."""

    def __init__(self, root: Callable[..., Any], other: Other | None) -> None:
        self.root = root
        self.ask = other
        self.ingredients: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.folder = ""
        self.calls: set[tuple[str, bool]] = set()
        self._labels: dict[tuple[str, int], str] = {}
        self._kept: list[Any] = []
        self._pending: list[Callable[[], None]] = []
        innermost = code_inside(root)
        self.innermost = innermost if isinstance(innermost, FunctionType) else None
        self._home = module_of(innermost.__globals__) if self.innermost else ""

    def run(self) -> None:
        """Reach everything from the root."""
        self.target(self.root, f"{self._home}.{getattr(self.root, '__name__', 'step')}")
        self.finish()

    def finish(self) -> None:
        """Visit what was met and not yet visited."""
        while self._pending:
            self._pending.pop(0)()

    def other(self, value: Any) -> str | None:
        """Fingerprint a value inside a value: code by what it reaches, a project's instance by what it holds."""
        code = self.code_target(value)
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
        self.class_target(cls)

    @abstractmethod
    def visit_function(self, label: str, function: FunctionType) -> None:
        """Write down what a function contributes."""

    @abstractmethod
    def visit_class(self, label: str, cls: type) -> None:
        """Write down what a class contributes."""

    @abstractmethod
    def visit_module(self, label: str, module: ModuleType) -> None:
        """Write down what a whole module contributes."""

    def target(self, value: Any, home: str) -> str:
        """Name what a value is known by: its code, or the constant at `home`."""
        return self.code_target(value) or self._constant(value, home)

    def code_target(self, value: Any) -> str | None:
        """Name a value that is code, a module, or without effect; None for any other."""
        if isinstance(value, type):
            return self.class_target(value)
        if isinstance(value, FunctionType):
            return self._function_target(value)
        if isinstance(value, ModuleType):
            return self._module_target(value)
        if isinstance(value, MethodType):
            return f"{self.target(value.__func__, 'method')} of {self.target(value.__self__, f'{self._home}.self')}"
        if is_without_effect(value):
            return "nothing"
        inner = inside_descriptor(value)
        if inner:
            return " ".join(self.target(each, "descriptor") for each in inner)
        return self._wrapper_target(value) or self._named_target(value)

    def _function_target(self, function: FunctionType) -> str:
        module = str(function.__globals__.get("__name__", ""))
        if owner_of_code(function) == "project":
            return self._once(
                "function", module_of(function.__globals__), own_qualname(function), function, self.visit_function
            )
        return self._wrapper_target(function) or self._foreign_function(function, module)

    def _foreign_function(self, function: FunctionType, module: str) -> str:
        named = importable_name(function)
        if named and owner_of(named[0]) != "project":
            return self.outside(".".join(named), named[0])
        return f"{self.outside(f'{module}.{function.__code__.co_name}', module)} holding {self._held(function)}"

    def _held(self, function: FunctionType) -> str:
        """Know a function that a call made in a library by all it closes over."""
        cells = [content_of(cell) for cell in function.__closure__ or ()]
        return fingerprint((cells, function.__defaults__, function.__kwdefaults__), self.other, self.meet)

    def _wrapper_target(self, value: Any) -> str | None:
        wrapped = wrapped_by(value)
        if wrapped is None:
            return None
        inside = self.target(wrapped, f"{self._home}.wrapped")
        if is_of_framework(value):
            return inside
        module = str(value.__globals__["__name__"]) if isinstance(value, FunctionType) else type(value).__module__
        cases = getattr(value, "registry", {}).values() if hasattr(value, "dispatch") else ()
        inner = sorted({inside, *(self.target(each, "case") for each in cases)})
        return f"{self.outside(module, module)} around {' '.join([*inner, *self._options(value, module)])}"

    def _options(self, wrapper: Any, module: str) -> list[str]:
        """Know what a wrapper was told, where no decorator above a function says it."""
        inner = code_inside(wrapper)
        if module == "functools" or not isinstance(inner, FunctionType) or owner_of_code(inner) != "project":
            return []
        if getattr(source_of_function(inner).function(inner.__code__).node, "decorator_list", []):
            return []
        if not isinstance(wrapper, FunctionType):
            raise FingerprintError(
                f"{inner.__qualname__!r} is wrapped by a call to {module}, whose options cannot be seen. "
                "Wrap it with a decorator, or set cache=False."
            )
        return [f"holding {self._held(wrapper)}"]

    def _named_target(self, value: Any) -> str | None:
        named = importable_name(value) if callable(value) else None
        if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | type(None)):
            named = None
        if named and owner_of(named[0]) == "project":
            if type(value).__module__ == "builtins" or "cython" in type(value).__module__:
                raise FingerprintError(
                    f"{'.'.join(named)} is compiled and belongs to no distribution. Install it as one, or set cache=False."
                )
            return self._typing_target(value)
        return self.outside(".".join(named), named[0]) if named else self._typing_target(value)

    def _typing_target(self, value: Any) -> str | None:
        is_name = type(value).__module__ == "typing" and hasattr(value, "__name__") and not hasattr(value, "__args__")
        return f"typing {value.__name__}" if is_name else None

    def class_target(self, cls: type) -> str:
        """Name a class and see that it is visited."""
        if owner_of(cls.__module__) != "project":
            return self.outside(f"{cls.__module__}.{cls.__qualname__}", cls.__module__)
        module, _, _ = class_label(cls).partition(f".{cls.__qualname__}")
        return self._once("class", module, cls.__qualname__, cls, self.visit_class)

    def _module_target(self, module: ModuleType) -> str:
        if owner_of(module.__name__, vars(module).get("__file__")) != "project":
            return self.outside(module.__name__, module.__name__)
        return self._once("module", module_of(vars(module)), "", module, self.visit_module)

    def outside(self, path: str, module: str) -> str:
        """Name something outside the project, and count its distribution in."""
        if module and owner_of(module) == "third-party" and module.partition(".")[0] != "airflow_zen":
            label, version = requirement(module)
            self.ingredients[label] = version
        return path

    def _constant(self, value: Any, home: str) -> str:
        label = self._label("constant", *home.rpartition(".")[::2], value)
        if label not in self.ingredients:
            try:
                self.ingredients[label] = fingerprint(_relative(value, self.folder), self.other, self.meet)
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


def _relative(value: Any, folder: str) -> Any:
    """Take the checkout's own path out of a path below it, such as `Path(__file__).parent`."""
    if not folder or not isinstance(value, str | PurePath):
        return value
    text = str(value)
    return ("beside the code", text[len(folder) :]) if text == folder or text.startswith(folder + os.sep) else value
