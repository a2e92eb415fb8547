"""ML pipelines on Apache Airflow: typed artifacts, caching that is right, lineage in MLflow."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.caching.policy import Cache
    from airflow_zen.client.artifacts import NamedArtifact, artifact, artifacts, register_artifact, save_artifact
    from airflow_zen.client.values import load, prune, save
    from airflow_zen.decorators.ml_step import ml_step
    from airflow_zen.errors import ZenError
    from airflow_zen.lineage.metadata import log_metadata
    from airflow_zen.materializers.annotations import Columns
    from airflow_zen.materializers.base import Materializer
    from airflow_zen.materializers.evaluation import ClassificationEvaluation
    from airflow_zen.materializers.mlflow_model import MLflowModel
    from airflow_zen.materializers.texts import CSVString, HTMLString, JSONString, MarkdownString
    from airflow_zen.materializers.user_defined import register_materializer
    from airflow_zen.operators.artifact import Artifact
    from airflow_zen.operators.ml_step import MLStepOperator
    from airflow_zen.steps.outputs import Each, Output

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "ArtifactRef",
    "CSVString",
    "Cache",
    "ClassificationEvaluation",
    "Columns",
    "Each",
    "HTMLString",
    "JSONString",
    "MLStepOperator",
    "MLflowModel",
    "MarkdownString",
    "Materializer",
    "NamedArtifact",
    "Output",
    "ZenError",
    "artifact",
    "artifacts",
    "load",
    "log_metadata",
    "ml_step",
    "prune",
    "register_artifact",
    "register_materializer",
    "save",
    "save_artifact",
]

# Loaded when first used: Airflow imports this package while it finds its providers, before it is whole itself.
_MODULES = {
    "Artifact": "airflow_zen.operators.artifact",
    "ArtifactRef": "airflow_zen.artifacts.ref",
    "CSVString": "airflow_zen.materializers.texts",
    "HTMLString": "airflow_zen.materializers.texts",
    "JSONString": "airflow_zen.materializers.texts",
    "Cache": "airflow_zen.caching.policy",
    "ClassificationEvaluation": "airflow_zen.materializers.evaluation",
    "Columns": "airflow_zen.materializers.annotations",
    "Each": "airflow_zen.steps.outputs",
    "MLStepOperator": "airflow_zen.operators.ml_step",
    "MLflowModel": "airflow_zen.materializers.mlflow_model",
    "MarkdownString": "airflow_zen.materializers.texts",
    "Materializer": "airflow_zen.materializers.base",
    "Output": "airflow_zen.steps.outputs",
    "NamedArtifact": "airflow_zen.client.artifacts",
    "ZenError": "airflow_zen.errors",
    "artifact": "airflow_zen.client.artifacts",
    "load": "airflow_zen.client.values",
    "log_metadata": "airflow_zen.lineage.metadata",
    "ml_step": "airflow_zen.decorators.ml_step",
    "prune": "airflow_zen.client.values",
    "register_artifact": "airflow_zen.client.artifacts",
    "register_materializer": "airflow_zen.materializers.user_defined",
    "save": "airflow_zen.client.values",
    "save_artifact": "airflow_zen.client.artifacts",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'airflow_zen' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _CallableArtifactsModule(ModuleType):
    """The room `airflow_zen.artifacts`, which is called as the function of that name: `airflow_zen.artifacts(tag="golden")`."""

    def __call__(self, prefix: str = "", tag: str = "", stack: str | None = None) -> list[NamedArtifact]:
        found: list[NamedArtifact] = import_module("airflow_zen.client.artifacts").artifacts(prefix, tag, stack)
        return found


import_module("airflow_zen.artifacts").__class__ = _CallableArtifactsModule
