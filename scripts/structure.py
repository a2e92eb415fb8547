"""Measure the structure of the package: files, importers, import cycles, functions, and the files that one step crosses.

Run it from the root of a checkout: `python scripts/structure.py`. Every figure is counted, none is timed.
"""

from __future__ import annotations

import ast
import inspect
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, Self

PACKAGE = "airflow_zen"
MAX_LINES = 20


def main() -> None:
    """Print one figure a line."""
    lengths, functions = file_lengths(), function_lengths()
    largest = max(lengths, key=lambda file: lengths[file])
    short = sum(length <= MAX_LINES for length in functions) / len(functions)
    _show("files", len(lengths))
    _show("lines", sum(lengths.values()))
    _show("lines of a file, median", median(lengths.values()))
    _show("lines of the largest file", f"{lengths[largest]} ({largest})")
    _show(f"functions of at most {MAX_LINES} lines", f"{short:.1%} of {len(functions)}")
    _show_imports()
    _show_crossed()


def _show(name: str, value: Any) -> None:
    print(f"{name:44} {value}")


def file_lengths() -> dict[Path, int]:
    """Return the number of lines of each file of the package."""
    return {file: len(file.read_text(encoding="utf-8").splitlines()) for file in sorted(Path(PACKAGE).rglob("*.py"))}


def function_lengths() -> list[int]:
    """Return the number of lines of each function's body, without its docstring."""
    return [length for file in file_lengths() for length in _function_lengths(file)]


def _function_lengths(file: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            yield (body[-1].end_lineno or 0) - body[0].lineno + 1


def _show_imports() -> None:
    graph, files = import_graph()
    importers = {module: graph.find_modules_that_directly_import(module) for module in files}
    _show("files with exactly one importer", sum(len(found) == 1 for found in importers.values()))
    _show("files in import cycles", len(files_in_cycles(graph, files)))


def import_graph() -> tuple[Any, set[str]]:
    """Return grimp's graph of the imports at run time, and the modules that are no empty packages."""
    import grimp

    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    return graph, {module for module in graph.modules if not _is_empty_package(module)}


def _is_empty_package(module: str) -> bool:
    file = Path(*module.split("."), "__init__.py")
    return file.exists() and len(ast.parse(file.read_text(encoding="utf-8")).body) <= 1


def files_in_cycles(graph: Any, files: set[str]) -> set[str]:
    """Return the modules that import themselves, directly or through others."""
    return {file for file in files if file in _reached(graph, file)}


def _reached(graph: Any, file: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph.find_modules_directly_imported_by(file))
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += graph.find_modules_directly_imported_by(module)
    return found


class Crossings:
    """Count, while it is entered, the files of the package whose functions run, and the calls from one into another."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        self.moves = 0

    def __enter__(self) -> Self:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        # Bodies of modules and classes are no calls.
        is_function = event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED
        if not is_function or f"/{PACKAGE}/" not in frame.f_code.co_filename:
            return
        self.files[frame.f_code.co_filename] += 1
        caller = frame.f_back
        self.moves += caller is not None and caller.f_code.co_filename != frame.f_code.co_filename


def _show_crossed() -> None:
    import pandas as pd

    def frame(rows: int) -> pd.DataFrame:
        return pd.DataFrame({"number": range(rows)})

    frame.__annotations__["return"] = pd.DataFrame
    with tempfile.TemporaryDirectory() as root:
        for state in ("computed", "cached"):
            with Crossings() as crossings:
                _run(frame, 2, root)
            _show(f"files crossed by int -> DataFrame, {state}", f"{len(crossings.files)} ({crossings.moves} moves)")


def _run(function: Any, rows: int, root: str) -> None:
    from airflow_zen.artifacts.store import ArtifactStore
    from airflow_zen.caching.step_cache import StepCache
    from airflow_zen.materializers.registry import default_registry
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
    from airflow_zen.stack import Stack
    from airflow_zen.steps.arguments import Arguments
    from airflow_zen.steps.run import run_step
    from airflow_zen.steps.step import Step
    from airflow_zen.transports import open_transport

    transport = open_transport(root, {})
    store = ArtifactStore(root, transport)
    stack = Stack(store, default_registry(), StepCache(transport), StepRunRecords(transport))
    run = StepRun(StepRunId("dag", "run", "frame", -1, 1), cache=CacheState.MISS)
    run_step(Step(function, "frame"), Arguments.bind(function, (rows,), {}), stack, run)


if __name__ == "__main__":
    main()
