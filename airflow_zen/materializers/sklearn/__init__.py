"""scikit-learn estimators as MLflow Model directories, without pickle and without importing mlflow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.markup import format_count
from airflow_zen.materializers.base import installed_version
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader

MODEL_FILE = "model.skops"
# In the order of `airflow_zen.materializers.sklearn.archive.STORED_CLASS`.
SKOPS_OPTIONS: Mapping[str, Any] = {
    "serialization_format": "skops",
    "skops_trusted_types": [f"{__name__}.decoding.StoredEstimator"],
}
"""The options of MLflow's flavors with which skops loads the file."""

_WEIGHTS = (("feature_importances_", "Feature importances"), ("coef_", "Coefficients, mean of absolutes"))


class SklearnMaterializer(ModelMaterializer):
    """Save any estimator, pipelines and searches included, in the layout of `mlflow.sklearn.save_model`.

    The same fitted state gives the same bytes. Own classes and functions are stored by their names, under which they must
    be importable where the estimator is loaded. Refused: lambdas, local classes, open files and locks.
    """

    types = ("sklearn.base.BaseEstimator",)
    encoding = "sklearn.mlflow@3"
    reads = ("sklearn.mlflow@1", "sklearn.mlflow@2")
    libraries = ("scikit-learn", "numpy", "scipy")
    extra = "sklearn"
    requirements = ("airflow-provider-zen", "numpy", "pandas", "scikit-learn", "scipy", "skops")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `model.skops`; raises `SaveRefused` for an estimator that could not be loaded again."""
        from airflow_zen.materializers.sklearn.encoding import write_estimator

        requirements = write_estimator(self.registry, model, directory / MODEL_FILE)
        flavor = {"code": None, "pickled_model": MODEL_FILE, **SKOPS_OPTIONS}
        pyfunc = {"model_path": MODEL_FILE, "predict_fn": "predict"} if hasattr(model, "predict") else None
        made_with = {"sklearn_version": installed_version("scikit-learn")}
        return WrittenModel(estimator_shape(model), flavor, pyfunc, requirements=requirements, made_with=made_with)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the estimator; raises `ArtifactRefused` for a file that names untrusted classes or functions."""
        from airflow_zen.materializers.sklearn.decoding import read_estimator

        return read_estimator(self.registry, directory / MODEL_FILE, wanted)

    def load_from(self, source: ArtifactReader, encoding: str, wanted: type | None = None) -> Any:
        """Read the estimator; warn as scikit-learn does if another release wrote it, by the manifest."""
        estimator, own = super().load_from(source, encoding, wanted), installed_version("scikit-learn")
        written = source.libraries().get("scikit-learn", own) if encoding == self.encoding else own
        if written != own:
            from sklearn.exceptions import InconsistentVersionWarning

            names = {"current_sklearn_version": own, "original_sklearn_version": written}
            warnings.warn(
                InconsistentVersionWarning(estimator_name=type(estimator).__qualname__, **names), stacklevel=2
            )
        return estimator

    def parameters(self, model: Any) -> Mapping[str, Any]:
        """Return the parameters, estimators by the name of their class: their own parameters are in the table too."""
        known = model.get_params().items()
        return {name: type(value).__qualname__ if hasattr(value, "get_params") else value for name, value in known}

    def feature_weights(self, model: Any) -> tuple[str, list[tuple[str, float]]]:
        """Return importances or coefficients, of a pipeline those of its last step; none without a fit."""
        import numpy as np

        steps = getattr(model, "steps", None)
        if isinstance(steps, list) and steps:
            return self.feature_weights(steps[-1][1])
        for name, meaning in _WEIGHTS:
            try:
                found = np.abs(np.asarray(getattr(model, name), dtype=np.float64))
            except Exception:  # noqa: BLE001, S112 - properties of estimators raise anything: sparse, other kernel, not fitted
                continue
            found = np.atleast_2d(found).mean(axis=0)
            names = [str(name) for name in getattr(model, "feature_names_in_", ())]
            names = names if len(names) == found.size else [f"feature {at}" for at in range(found.size)]
            return meaning, list(zip(names, map(float, found), strict=True))
        return "", []


def estimator_shape(estimator: Any) -> str:
    """Return a text with the class of an estimator and the number of its features."""
    features = getattr(estimator, "n_features_in_", None)
    name = type(estimator).__qualname__
    return name if features is None else f"{name} of {format_count(features, 'feature')}"
