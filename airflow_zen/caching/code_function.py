"""Whose a function is, where it was written, and what it closes over."""

from __future__ import annotations

from collections.abc import Mapping
from types import CellType, FunctionType
from typing import Any

from airflow_zen.caching.code_scope import MISSING
from airflow_zen.caching.distributions import CodeOrigin, origin_of_module
from airflow_zen.caching.source import SourceFile, parse_source_file
from airflow_zen.errors import FingerprintError
from airflow_zen.labels import stable_module_name


def module_label_of_globals(module_globals: Mapping[str, Any]) -> str:
    """Name the module that these globals belong to, alike on every machine."""
    return stable_module_name(str(module_globals.get("__name__", "")), module_globals.get("__file__"))


def origin_of_function(function: FunctionType) -> CodeOrigin:
    """Tell whose code a function is, by the file its code object came from."""
    file = function.__code__.co_filename
    module = str(function.__globals__.get("__name__", ""))
    if file.startswith("<"):
        # A notebook's cells belong to no file, and `__main__` then has that of the notebook server.
        return "project" if module == "__main__" else origin_of_module(module)
    return origin_of_module(module, file)


def function_source(function: FunctionType) -> SourceFile:
    """Read the file a function was written in; raises `FingerprintError` when there is none."""
    source = parse_source_file(function.__code__.co_filename, function.__globals__)
    if source is None:
        raise FingerprintError(
            f"{function.__qualname__!r} has no source text: it was typed at a prompt or made by exec. "
            "Define it in a file, or set cache=False."
        )
    return source


def defined_qualname(function: FunctionType) -> str:
    """Give the name a function was written under, whatever it was made to look like."""
    # functools.wraps copies __qualname__; the code object keeps its own.
    return getattr(function.__code__, "co_qualname", function.__qualname__)


def closure_variables(function: FunctionType) -> dict[str, Any]:
    """Give the variables of enclosing functions that a function uses, those not yet set as `MISSING`."""
    names = function.__code__.co_freevars
    cells = zip(names, function.__closure__ or (), strict=True)
    return {name: cell_value(cell) for name, cell in cells if name != "__class__"}


def cell_value(cell: CellType) -> Any:
    """Give what a closure's cell holds, `MISSING` before it is set."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING
