"""XGBoost boosters and scikit-learn wrappers as plain MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class XgboostMaterializer(Materializer):
    """Save a model the way `mlflow.xgboost.save_model` lays it out, and beside it what that leaves out.

    Kept exactly: the trees, the booster's configuration and attributes, the wrapper's parameters and results.
    Refused: functions among the parameters (an own objective, metric or callback).
    """

    types = ("xgboost.Booster", "xgboost.XGBModel")
    encoding = "xgboost.mlflow@1"
    libraries = ("xgboost", "xgboost-cpu")
    extra = "xgboost"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `MLmodel`, `model.ubj`, `config.json`, `state.json` and the environment."""
        from airflow_zen.materializers.xgboost.model import save_xgboost_model

        return save_xgboost_model(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show parameters and gains of features."""
        from airflow_zen.materializers.xgboost.preview import preview_xgboost_model

        return preview_xgboost_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the booster, and the wrapper around it."""
        from airflow_zen.materializers.xgboost.model import load_xgboost_model

        return load_xgboost_model(self, directory, wanted)
