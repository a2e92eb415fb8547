"""CatBoost models as plain MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class CatboostMaterializer(Materializer):
    """Save a model the way `mlflow.catboost.save_model` lays it out, and its parameters beside it.

    Refused: subclasses, and functions among the parameters (an own objective or metric).
    """

    types = ("catboost.CatBoost",)
    encoding = "catboost.mlflow@1"
    libraries = ("catboost",)
    extra = "catboost"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `MLmodel`, `model.cb`, `state.json` and the environment."""
        from airflow_zen.materializers.catboost.model import save_catboost_model

        return save_catboost_model(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show parameters and importances of features."""
        from airflow_zen.materializers.catboost.model import preview_catboost_model

        return preview_catboost_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model."""
        from airflow_zen.materializers.catboost.model import load_catboost_model

        return load_catboost_model(self, directory)
