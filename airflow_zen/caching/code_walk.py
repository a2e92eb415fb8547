"""The walk from a function to every piece of project code, constant and distribution it reaches."""

from __future__ import annotations

import ast
import functools
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from airflow_zen.caching.code_scope import MISSING, Meaning, Scope
from airflow_zen.caching.code_text import CodeText, Reference, normalise, references_of
from airflow_zen.caching.code_values import code_inside, importable_name, instance_content, is_without_effect
from airflow_zen.caching.code_warnings import warnings_for
from airflow_zen.caching.distributions import FRAMEWORK, owner_of, requirement
from airflow_zen.caching.source import Definition, SourceFile, source_of
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import Other, class_label, fingerprint, module_label

_DYNAMIC = {
    "builtins.exec", "builtins.eval", "builtins.compile", "builtins.__import__", "builtins.globals",
    "importlib.import_module", "importlib.__import__", "runpy.run_path", "runpy.run_module",
}  # fmt: skip
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))
_OUR_OWN = "airflow_zen"


class Walk:
    """Collects the ingredients of everything reached; each thing once, in an order the code decides."""

    def __init__(self, root: Callable[..., Any], other: Other | None) -> None:
        self.root = root
        self.ask = other
        self.ingredients: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.calls: set[tuple[str, bool]] = set()
        self.home = ""
        self._labels: dict[tuple[str, int], str] = {}
        self._kept: list[Any] = []
        self._pending: list[Callable[[], None]] = []
        self._reader = "the step"

    def run(self) -> None:
        """Reach everything from the root."""
        innermost = code_inside(self.root)
        if isinstance(innermost, FunctionType):
            self.home = _module_of(innermost.__globals__)
        self.code_target(self.root) or self._constant(self.root, getattr(self.root, "__name__", "root"))
        self.finish()
