"""The import of the modules that a task ships in a spec, and stand-ins for Airflow, on the far side of a runtime."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.resources.readers import FileReader

    from airflow_zen.steps.spec import SourceModule


RAY_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable with which Ray configures the driver of a job."""


class ShippedModuleImporter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import the modules of a spec from their source text."""

    def __init__(self, modules: Iterable[SourceModule]) -> None:
        self._modules = {module.name: module for module in modules}

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a shipped module."""
        if (module := self._modules.get(fullname)) is None:
            return None
        found = importlib.machinery.ModuleSpec(fullname, self, origin=module.file, is_package=module.is_package)
        found.has_location = bool(module.file)
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Execute the needed statements of a module, and register its lines for tracebacks."""
        shipped = self._modules[module.__name__]
        lines = shipped.text.splitlines(keepends=True)
        linecache.cache[shipped.file] = (len(shipped.text), None, lines, shipped.file)
        if shipped.variables != "{}":
            from airflow_zen.materializers.registry import default_registry
            from airflow_zen.materializers.typed_json import decode_typed_json

            materializer = default_registry().for_encoding("python.json@1")
            vars(module).update(decode_typed_json(materializer, shipped.variables, None))
        tree = _executed_part(shipped)
        _stand_in_for_airflow(tree)
        exec(compile(tree, shipped.file, "exec"), vars(module))  # noqa: S102 - the user's own code
        if RAY_JOB_VARIABLE in os.environ:
            _pickle_by_value(module)

    def get_source(self, fullname: str) -> str:
        """Return the text of a module, for tracebacks and `inspect`."""
        return self._modules[fullname].text

    def get_data(self, path: str) -> bytes:
        """Return a file beside the code, for `pkgutil`, if this machine has it."""
        return Path(path).read_bytes()

    def get_resource_reader(self, fullname: str) -> FileReader:
        """Return the reader of the files beside the code, for `importlib.resources`."""
        from importlib.resources.readers import FileReader

        return FileReader(importlib.machinery.SourceFileLoader(fullname, self._modules[fullname].file))


def _pickle_by_value(module: ModuleType) -> None:
    """Let Ray send what the module defines itself to its workers, which cannot import the module."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def _executed_part(module: SourceModule) -> ast.Module:
    """Return the statements of a module that are executed, with their original line numbers."""
    tree = ast.parse(module.text, module.file)
    names, left_out = dict(module.names), set(module.left_out)
    if module.statements is not None:
        wanted = set(module.statements)
        found = (node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _position(node) in wanted)
        tree.body = sorted(found, key=_position)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = [each for each in node.decorator_list if _position(each) not in left_out]
            if not isinstance(node, ast.ClassDef) and node.returns and _position(node.returns) in left_out:
                node.returns = None
        elif isinstance(node, ast.arg) and node.annotation and _position(node.annotation) in left_out:
            node.annotation = None
        elif isinstance(node, ast.Import | ast.ImportFrom) and (kept := names.get(_position(node))):
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in kept]
    return tree


def _position(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _stand_in_for_airflow(tree: ast.AST) -> None:
    """If Airflow is not installed, define its exceptions and asset event classes for code that imports it.

    Every other name of Airflow raises an `ImportError`.
    """
    if "airflow" in sys.modules or importlib.util.find_spec("airflow") is not None:
        return
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    names = (name for node in imports for name in [getattr(node, "module", None) or node.names[0].name])
    if any(name.partition(".")[0] == "airflow" for name in names):
        for module in ("airflow", "airflow.exceptions", "airflow.sdk", "airflow.sdk.exceptions"):
            sys.modules[module] = ModuleType(module)
            vars(sys.modules[module]).update(_AIRFLOW_NAMES, __path__=[])


def _exception(name: str, base: type[Exception] = Exception) -> type[Exception]:
    # The module that has them in every release of Airflow.
    return type(name, (base,), {"__module__": "airflow.providers.common.compat.sdk"})


class _Asset:
    """The name and address of an asset."""

    def __init__(self, name: str = "", uri: str = "", **options: Any) -> None:
        self.name, self.uri = name or uri, uri


class Metadata:
    """The extra of an asset event that a step yields."""

    def __init__(self, asset: _Asset, extra: Mapping[str, Any], alias: _Asset | None = None) -> None:
        self.asset, self.extra, self.alias = asset, extra, alias


def asset_event(event: Mapping[str, Any]) -> Metadata:
    """Return the description of an asset event in an answer as a step yields it."""
    alias = _Asset(event["alias"]) if event["alias"] else None
    return Metadata(_Asset(**event["asset"]), event["extra"], alias)


_AIRFLOW_EXCEPTION = _exception("AirflowException")
_AIRFLOW_NAMES = {
    "AirflowException": _AIRFLOW_EXCEPTION,
    "AirflowFailException": _exception("AirflowFailException", _AIRFLOW_EXCEPTION),
    "AirflowSkipException": _exception("AirflowSkipException", _AIRFLOW_EXCEPTION),
    "Asset": _Asset,
    "AssetAlias": _Asset,
    "Metadata": Metadata,
}
