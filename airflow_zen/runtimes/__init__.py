"""Where the functions of steps run: `from airflow_zen.runtimes import Virtualenv`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SettingsError
from airflow_zen.steps.runtime import InProcess as InProcess
from airflow_zen.steps.runtime import Runtime as Runtime

if TYPE_CHECKING:
    from airflow_zen.runtimes.docker import Docker as Docker
    from airflow_zen.runtimes.kubeflow import PyTorchJob as PyTorchJob
    from airflow_zen.runtimes.kubeflow import TrainJob as TrainJob
    from airflow_zen.runtimes.kubernetes import Kubernetes as Kubernetes
    from airflow_zen.runtimes.python import Python as Python
    from airflow_zen.runtimes.ray import Ray as Ray
    from airflow_zen.runtimes.torch_elastic import TorchElastic as TorchElastic
    from airflow_zen.runtimes.virtualenv import Virtualenv as Virtualenv

_MODULES = {
    "Docker": "airflow_zen.runtimes.docker",
    "InProcess": "airflow_zen.steps.runtime",
    "Kubernetes": "airflow_zen.runtimes.kubernetes",
    "PyTorchJob": "airflow_zen.runtimes.kubeflow",
    "Python": "airflow_zen.runtimes.python",
    "Ray": "airflow_zen.runtimes.ray",
    "TorchElastic": "airflow_zen.runtimes.torch_elastic",
    "TrainJob": "airflow_zen.runtimes.kubeflow",
    "Virtualenv": "airflow_zen.runtimes.virtualenv",
}

__all__ = [
    "Docker",
    "InProcess",
    "Kubernetes",
    "PyTorchJob",
    "Python",
    "Ray",
    "Runtime",
    "TorchElastic",
    "TrainJob",
    "Virtualenv",
    "parse_runtime",
]


def parse_runtime(text: str, where: str) -> Runtime:
    """Return the runtime that a text describes as Python code: `Virtualenv(["pandas<3"])`, `InProcess()`.

    Only literals are evaluated. `where` names the place of the text in errors. Raises `SettingsError`.
    """
    try:
        runtime: Runtime = evaluate_record(text, _MODULES)
    except (ValueError, TypeError, SyntaxError) as error:
        raise SettingsError(f"{where} must be a runtime such as 'InProcess()', got {text!r}: {error}.") from error
    return runtime


def evaluate_record(text: str, modules: Mapping[str, str]) -> Any:
    """Return the record that a text calls one of the classes in `modules` for, with literals and such records.

    Raises `ValueError`, `TypeError` or `SyntaxError`.
    """
    return _evaluate_call(ast.parse(text.strip(), mode="eval").body, modules)


def _evaluate_call(call: ast.expr, modules: Mapping[str, str]) -> Any:
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in modules):
        raise ValueError(f"it calls none of {', '.join(modules)}")
    args = [_evaluate(each, modules) for each in call.args]
    options = {str(each.arg): _evaluate(each.value, modules) for each in call.keywords}
    return getattr(import_module(modules[call.func.id]), call.func.id)(*args, **options)


def _evaluate(node: ast.expr, modules: Mapping[str, str]) -> Any:
    return _evaluate_call(node, modules) if isinstance(node, ast.Call) else ast.literal_eval(node)


if not TYPE_CHECKING:  # Type checkers accept any name of a module that has this function.

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'airflow_zen.runtimes' has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
