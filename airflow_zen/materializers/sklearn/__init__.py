"""scikit-learn estimators as plain MLflow Model directories, without pickle and without importing mlflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer, installed_version
from airflow_zen.materializers.mlflow_model import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.previews.html import PREVIEW_HTML
from airflow_zen.materializers.previews.models import model_page


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
        return save_sklearn_model(value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show parameters and weights of features."""
        return preview_estimator(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the estimator from `model.skops`; raises `ArtifactRefused` when it holds untrusted types."""
        return load_sklearn_model(directory)


def save_sklearn_model(estimator: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that could not be loaded again."""
    from airflow_zen.materializers.sklearn.skops import estimator_shape, write_estimator

    trusted = write_estimator(estimator, directory / MODEL_FILE)
    write_mlflow_files(directory, trusted, predicts=hasattr(estimator, "predict"))
    return {"shape": estimator_shape(estimator), "estimator": type(estimator).__qualname__}


def load_sklearn_model(directory: Path) -> Any:
    """Read the estimator; raises `ArtifactRefused` where the file names what is not trusted."""
    from airflow_zen.materializers.sklearn.skops import read_estimator

    return read_estimator(directory / MODEL_FILE)


MODEL_FILE = "model.skops"

_REQUIREMENTS = ("numpy", "pandas", "scikit-learn", "scipy", "skops")


def write_mlflow_files(directory: Path, trusted: Sequence[str], predicts: bool) -> None:
    """Write the files beside `model.skops`; `trusted` are the types that mlflow hands to skops when it loads it."""
    flavors: dict[str, Any] = {
        "sklearn": {
            "code": None,
            "pickled_model": MODEL_FILE,
            "serialization_format": "skops",
            "skops_trusted_types": list(trusted),
            "sklearn_version": installed_version("scikit-learn"),
        }
    }
    if predicts:
        flavors["python_function"] = pyfunc_flavor("mlflow.sklearn", model_path=MODEL_FILE, predict_fn="predict")
    write_mlmodel(directory, flavors)
    write_environment(directory, (*_REQUIREMENTS, *_booster_libraries(trusted)))


def _booster_libraries(trusted: Sequence[str]) -> list[str]:
    """Name the libraries whose models are parts of this one."""
    found = {name.partition(".")[0] for name in trusted}
    return [name for name in ("lightgbm", "xgboost", "xgboost-cpu") if name.partition("-")[0] in found]


def preview_estimator(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show an estimator; of a pipeline the weights of its last step."""
    kind, weights = _feature_weights(_last_step(value))
    parameters = {name: _parameter_value(held) for name, held in value.get_params().items()}
    return {
        PREVIEW_HTML: model_page(type(value).__qualname__, str(summary.get("shape", "")), parameters, weights, kind)
    }


def _last_step(estimator: Any) -> Any:
    steps = getattr(estimator, "steps", None)
    return _last_step(steps[-1][1]) if isinstance(steps, list) and steps else estimator


def _parameter_value(value: Any) -> Any:
    """Name an estimator among the parameters by its class: its parameters are in the table anyway."""
    return type(value).__qualname__ if hasattr(value, "get_params") else value


def _feature_weights(estimator: Any) -> tuple[str, list[tuple[str, float]]]:
    """Give importances or coefficients by feature; none of an estimator that has neither, or is not fitted."""
    import numpy as np

    for name, kind in (("feature_importances_", "Feature importances"), ("coef_", "Coefficients, mean of absolutes")):
        try:
            found = np.abs(np.asarray(getattr(estimator, name), dtype=np.float64))
        except Exception:  # noqa: BLE001, S112 - properties of estimators raise what they like: sparse, other kernel, not fitted
            continue
        found = np.atleast_2d(found).mean(axis=0)
        return kind, list(zip(_feature_names(estimator, found.size), map(float, found), strict=True))
    return "", []


def _feature_names(estimator: Any, count: int) -> list[str]:
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    return names if len(names) == count else [f"feature {at}" for at in range(count)]
