"""scikit-learn estimators as plain MLflow Model directories, without pickle and without importing mlflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class SklearnMaterializer(Materializer):
    """Save any estimator, pipelines and searches included, the way `mlflow.sklearn.save_model` lays it out.

    `mlflow.sklearn.load_model`, `mlflow.pyfunc.load_model` and `mlflow models serve` take the directory as
    it is. The same fitted state gives the same bytes. What scikit-learn, NumPy and SciPy build models of is
    trusted; an estimator with anything else (an own transformer, a lambda) is refused.
    """

    types = ("sklearn.base.BaseEstimator",)
    encoding = "sklearn.mlflow@1"
    libraries = ("scikit-learn", "skops", "numpy", "scipy")
    extra = "sklearn"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `MLmodel`, `model.skops` and the files that describe its environment."""
        from airflow_zen.materializers.sklearn.model import save_sklearn_model

        return save_sklearn_model(value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show parameters and weights of features."""
        from airflow_zen.materializers.sklearn.preview import preview_estimator

        return preview_estimator(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the estimator from `model.skops`; raises `ArtifactRefused` when it holds untrusted types."""
        from airflow_zen.materializers.sklearn.model import load_sklearn_model

        return load_sklearn_model(directory)
