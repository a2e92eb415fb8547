"""ML pipelines on Apache Airflow: typed artifacts, caching that is right, lineage in MLflow."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_zen import lineage as lineage
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.client.artifacts import (
        NamedArtifact,
        artifact,
        artifacts,
        load,
        prune,
        register_artifact,
        save,
        save_artifact,
    )
    from airflow_zen.decorators.ml_step import ml_step
    from airflow_zen.decorators.sweep import best, sweep
    from airflow_zen.deployment import BentoML, KServe, MLflowServing, Seldon
    from airflow_zen.deployment.base import Deployment
    from airflow_zen.errors import ZenError
    from airflow_zen.lineage.mlflow.offline import mlflow_environment
    from airflow_zen.lineage.recorder import log_metadata
    from airflow_zen.materializers.annotations import Columns
    from airflow_zen.materializers.base import Materializer
    from airflow_zen.materializers.evaluation import ClassificationEvaluation
    from airflow_zen.materializers.mlflow_model import MLflowModel
    from airflow_zen.materializers.texts import CSVString, HTMLString, JSONString, MarkdownString
    from airflow_zen.materializers.user_defined import register_materializer
    from airflow_zen.models.gates import Better
    from airflow_zen.operators.artifact import Artifact, Model
    from airflow_zen.operators.deployment import DeployModelOperator, ReadPredictionsOperator, deploy, predictions
    from airflow_zen.operators.evaluation import EvaluateOperator, evaluate
    from airflow_zen.operators.fused import fused
    from airflow_zen.operators.ml_step import MLStepOperator
    from airflow_zen.operators.prediction import BatchPredictOperator, predict
    from airflow_zen.operators.promotion import PromoteModelOperator, promote
    from airflow_zen.operators.validation import ValidateOperator, validate
    from airflow_zen.sensors.model_version import ModelVersionSensor
    from airflow_zen.steps.checkpoint import checkpoint
    from airflow_zen.steps.outputs import Each, Output
    from airflow_zen.steps.runtime import ResourceHints
    from airflow_zen.steps.step import Cache
    from airflow_zen.steps.trial import report
    from airflow_zen.sweeps.space import IntUniform, LogUniform, Uniform
    from airflow_zen.validation.base import Validator
    from airflow_zen.validation.checks import (
        AllowedValues,
        Fresh,
        HasType,
        InRange,
        NoDuplicateRows,
        NoOverlap,
        NoTargetLeakage,
        NotConstant,
        NotNull,
        RowCount,
        RowCountChange,
        SameSchema,
        Unique,
    )
    from airflow_zen.validation.evaluation_checks import Threshold
    from airflow_zen.validation.evaluation_report import EvaluationReport
    from airflow_zen.validation.report import Check, FailingRow, ValidationReport

__version__ = "0.1.0"

__all__ = [
    "AllowedValues",
    "Artifact",
    "ArtifactRef",
    "BatchPredictOperator",
    "BentoML",
    "Better",
    "CSVString",
    "Cache",
    "Check",
    "ClassificationEvaluation",
    "Columns",
    "DeployModelOperator",
    "Deployment",
    "Each",
    "EvaluateOperator",
    "EvaluationReport",
    "FailingRow",
    "Fresh",
    "HTMLString",
    "HasType",
    "InRange",
    "IntUniform",
    "JSONString",
    "KServe",
    "LogUniform",
    "MLStepOperator",
    "MLflowModel",
    "MLflowServing",
    "MarkdownString",
    "Materializer",
    "Model",
    "ModelVersionSensor",
    "NamedArtifact",
    "NoDuplicateRows",
    "NoOverlap",
    "NoTargetLeakage",
    "NotConstant",
    "NotNull",
    "Output",
    "PromoteModelOperator",
    "ReadPredictionsOperator",
    "ResourceHints",
    "RowCount",
    "RowCountChange",
    "SameSchema",
    "Seldon",
    "Threshold",
    "Uniform",
    "Unique",
    "ValidateOperator",
    "ValidationReport",
    "Validator",
    "ZenError",
    "artifact",
    "artifacts",
    "best",
    "checkpoint",
    "deploy",
    "evaluate",
    "fused",
    "lineage",
    "load",
    "log_metadata",
    "ml_step",
    "mlflow_environment",
    "predict",
    "predictions",
    "promote",
    "prune",
    "register_artifact",
    "register_materializer",
    "report",
    "save",
    "save_artifact",
    "sweep",
    "validate",
]

# Imported when first used: Airflow imports this package while it discovers providers, before it is complete itself.
_MODULES = {
    name: f"airflow_zen.{module}"
    for module, names in {
        "artifacts.ref": ["ArtifactRef"],
        "client.artifacts": [
            *("NamedArtifact", "artifact", "load", "prune", "register_artifact", "save", "save_artifact"),
        ],
        "decorators.ml_step": ["ml_step"],
        "decorators.sweep": ["best", "sweep"],
        "deployment": ["BentoML", "KServe", "MLflowServing", "Seldon"],
        "deployment.base": ["Deployment"],
        "errors": ["ZenError"],
        "lineage.mlflow.offline": ["mlflow_environment"],
        "lineage.recorder": ["log_metadata"],
        "materializers.annotations": ["Columns"],
        "materializers.base": ["Materializer"],
        "materializers.evaluation": ["ClassificationEvaluation"],
        "materializers.mlflow_model": ["MLflowModel"],
        "materializers.texts": ["CSVString", "HTMLString", "JSONString", "MarkdownString"],
        "materializers.user_defined": ["register_materializer"],
        "models.gates": ["Better"],
        "operators.artifact": ["Artifact", "Model"],
        "operators.fused": ["fused"],
        "operators.ml_step": ["MLStepOperator"],
        "sensors.model_version": ["ModelVersionSensor"],
        "steps.checkpoint": ["checkpoint"],
        "steps.outputs": ["Each", "Output"],
        "steps.runtime": ["ResourceHints"],
        "steps.step": ["Cache"],
        "steps.trial": ["report"],
        "sweeps.space": ["IntUniform", "LogUniform", "Uniform"],
        "operators.deployment": ["DeployModelOperator", "ReadPredictionsOperator", "deploy", "predictions"],
        "operators.evaluation": ["EvaluateOperator", "evaluate"],
        "operators.prediction": ["BatchPredictOperator", "predict"],
        "operators.promotion": ["PromoteModelOperator", "promote"],
        "operators.validation": ["ValidateOperator", "validate"],
        "validation.base": ["Validator"],
        "validation.checks": [
            *("AllowedValues", "Fresh", "HasType", "InRange", "NoDuplicateRows", "NoOverlap", "NoTargetLeakage"),
            *("NotConstant", "NotNull", "RowCount", "RowCountChange", "SameSchema", "Unique"),
        ],
        "validation.evaluation_checks": ["Threshold"],
        "validation.evaluation_report": ["EvaluationReport"],
        "validation.report": ["Check", "FailingRow", "ValidationReport"],
    }.items()
    for name in names
}


def has_pages(airflow_version: str) -> bool:
    """Whether an Airflow can show our pages: theme, components and router, which they take from it, came with 3.3.

    It is here because the plugin and each task ask it, and import nothing else in common that is as small.
    """
    return tuple(int(part) for part in airflow_version.split(".")[:2]) >= (3, 3)


if not TYPE_CHECKING:  # Type checkers accept any name of a module that has this function.

    def __getattr__(name: str) -> Any:
        if name == "lineage":
            return import_module("airflow_zen.lineage")
        if name not in _MODULES:
            # Python suggests a near name from the list of `__dir__`.
            raise AttributeError(
                f"module 'airflow_zen' has no attribute {name!r}", name=name, obj=sys.modules[__name__]
            )
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


class _CallableArtifactsModule(ModuleType):
    """The package `airflow_zen.artifacts`, which is also callable: `airflow_zen.artifacts(tag="golden")`."""

    def __call__(self, prefix: str = "", tag: str = "", stack: str | None = None) -> list[NamedArtifact]:
        found: list[NamedArtifact] = import_module("airflow_zen.client.artifacts").artifacts(prefix, tag, stack)
        return found


import_module("airflow_zen.artifacts").__class__ = _CallableArtifactsModule
