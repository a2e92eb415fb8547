"""LightGBM boosters and scikit-learn wrappers as plain MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


class LightgbmMaterializer(Materializer):
    """Save a model the way `mlflow.lightgbm.save_model` lays it out: a booster as text, a wrapper with skops.

    Of a booster are kept the trees, `params`, `best_iteration` and `best_score`; not its training data.
    """

    types = ("lightgbm.Booster", "lightgbm.LGBMModel")
    encoding = "lightgbm.mlflow@1"
    libraries = ("lightgbm", "scikit-learn", "skops")
    extra = "lightgbm"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `MLmodel`, the environment, and `model.lgb` and `state.json`, or `model.skops`."""
        from airflow_zen.materializers.lightgbm.model import save_lightgbm_model

        return save_lightgbm_model(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show parameters and gains of features."""
        from airflow_zen.materializers.lightgbm.preview import preview_lightgbm_model

        return preview_lightgbm_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the booster or the wrapper."""
        from airflow_zen.materializers.lightgbm.model import load_lightgbm_model

        return load_lightgbm_model(self, directory)
