"""LightGBM boosters and scikit-learn wrappers as MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import installed_version, require_exact_type
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel
from airflow_zen.materializers.sklearn import MODEL_FILE as WRAPPER_FILE
from airflow_zen.materializers.sklearn import SKOPS_OPTIONS, estimator_shape

BOOSTER_FILE = "model.lgb"
ALL_TREES_FILE = "complete.lgb"


class LightgbmMaterializer(ModelMaterializer):
    """Save a model in the layout of `mlflow.lightgbm.save_model`: a booster as text, a wrapper as an estimator.

    A booster keeps its trees, `params`, `best_iteration` and `best_score`; not its training data.
    """

    types = ("lightgbm.Booster", "lightgbm.LGBMModel")
    encoding = "lightgbm.mlflow@3"
    reads = ("lightgbm.mlflow@1", "lightgbm.mlflow@2")
    libraries = ("lightgbm", "scikit-learn")
    extra = "lightgbm"
    requirements = ("airflow-provider-zen", "lightgbm", "numpy", "pandas", "scikit-learn", "scipy", "skops")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `model.lgb` of a booster, `model.skops` of a wrapper."""
        is_booster = not hasattr(model, "get_params")
        file = BOOSTER_FILE if is_booster else WRAPPER_FILE
        flavor = {
            "code": None,
            "data": file,
            "model_class": f"{type(model).__module__}.{type(model).__qualname__}",
            **(dict.fromkeys(SKOPS_OPTIONS) if is_booster else SKOPS_OPTIONS),
        }
        made_with = {"lgb_version": installed_version("lightgbm")}
        if not is_booster:
            from airflow_zen.materializers.sklearn.encoding import write_estimator

            write_estimator(self.registry, model, directory / WRAPPER_FILE)
            return WrittenModel(estimator_shape(model), flavor, {"data": file}, made_with=made_with)
        require_exact_type(model, *self.types)
        _write_trees(model, directory)
        state = {name: getattr(model, name) for name in ("best_iteration", "best_score", "params")}
        shape = f"Booster of {model.num_feature()} features, {model.num_trees()} trees"
        return WrittenModel(shape, flavor, {"data": file}, state, made_with=made_with)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the booster or the wrapper."""
        import lightgbm

        if (directory / WRAPPER_FILE).exists():
            from airflow_zen.materializers.sklearn.decoding import read_estimator

            return read_estimator(self.registry, directory / WRAPPER_FILE, wanted)
        all_trees = directory / ALL_TREES_FILE
        booster = lightgbm.Booster(model_file=all_trees if all_trees.exists() else directory / BOOSTER_FILE)
        for name, item in self.read_state(directory).items():
            setattr(booster, name, item)
        return booster

    def parameters(self, model: Any) -> Mapping[str, Any]:
        """Return the parameters; of a wrapper only those that are set."""
        return super().parameters(model) if hasattr(model, "get_params") else dict(model.params)

    def feature_weights(self, model: Any) -> tuple[str, list[tuple[str, float]]]:
        """Return the gain of each feature in all splits."""
        # The property of a wrapper that is not fitted raises an AttributeError.
        booster = getattr(model, "booster_", None) if hasattr(model, "get_params") else model
        if booster is None:
            return "", []
        gains = map(float, booster.feature_importance(importance_type="gain"))
        return "Total gain of features", list(zip(booster.feature_name(), gains, strict=True))


def _write_trees(booster: Any, directory: Path) -> None:
    """Write all trees; if training continued after the best iteration, write those up to it for mlflow."""
    stopped_early = 0 < booster.best_iteration < booster.current_iteration()
    # By default LightGBM writes the iterations up to the best; -1 are all.
    booster.save_model(directory / (ALL_TREES_FILE if stopped_early else BOOSTER_FILE), num_iteration=-1)
    if stopped_early:
        booster.save_model(directory / BOOSTER_FILE, num_iteration=booster.best_iteration)
