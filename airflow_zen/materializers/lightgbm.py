"""LightGBM boosters and scikit-learn wrappers as plain MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.mlflow_model import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.previews.html import PREVIEW_HTML
from airflow_zen.materializers.previews.models import model_page
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    pass


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
        return save_lightgbm_model(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show parameters and gains of features."""
        return preview_lightgbm_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the booster or the wrapper."""
        return load_lightgbm_model(self, directory)


BOOSTER_FILE = "model.lgb"
ALL_TREES_FILE = "complete.lgb"
STATE_FILE = "state.json"
WRAPPER_FILE = "model.skops"

_ALL_ITERATIONS = -1


def save_lightgbm_model(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that would not come back."""
    import lightgbm

    from airflow_zen.materializers.sklearn.skops import estimator_shape, write_estimator

    if isinstance(value, lightgbm.Booster):
        parts = _save_booster(materializer, value, directory)
        shape = f"Booster of {value.num_feature()} features, {value.num_trees()} trees"
        summary = {"shape": shape, "estimator": "Booster"}
        return {**summary, "parts": parts} if parts else summary
    trusted = write_estimator(value, directory / WRAPPER_FILE)
    _write_mlflow_files(
        value, directory, WRAPPER_FILE, {"serialization_format": "skops", "skops_trusted_types": trusted}
    )
    return {"shape": estimator_shape(value), "estimator": type(value).__qualname__}


def load_lightgbm_model(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_lightgbm_model` wrote."""
    import lightgbm

    from airflow_zen.materializers.sklearn.skops import read_estimator

    if (directory / WRAPPER_FILE).exists():
        return read_estimator(directory / WRAPPER_FILE)
    file = directory / (ALL_TREES_FILE if (directory / ALL_TREES_FILE).exists() else BOOSTER_FILE)
    booster = lightgbm.Booster(model_file=file)
    for name, item in read_typed_json(materializer, directory, STATE_FILE).items():
        setattr(booster, name, item)
    return booster


def _save_booster(materializer: Materializer, booster: Any, directory: Path) -> list[dict[str, str]]:
    """Write all trees; where training went on past the best iteration, mlflow gets those up to it."""
    import lightgbm

    if type(booster) is not lightgbm.Booster:
        raise SaveRefused(f"{type_name(type(booster))} is a subclass of lightgbm.Booster that would come back as that.")
    stopped_early = 0 < booster.best_iteration < booster.current_iteration()
    booster.save_model(directory / (ALL_TREES_FILE if stopped_early else BOOSTER_FILE), num_iteration=_ALL_ITERATIONS)
    if stopped_early:
        booster.save_model(directory / BOOSTER_FILE, num_iteration=booster.best_iteration)
    kept = {name: getattr(booster, name) for name in ("best_iteration", "best_score", "params")}
    parts = write_typed_json(materializer, kept, directory, STATE_FILE)
    _write_mlflow_files(booster, directory, BOOSTER_FILE, {"serialization_format": None, "skops_trusted_types": None})
    return parts


def _write_mlflow_files(model: Any, directory: Path, file: str, serialization: Mapping[str, Any]) -> None:
    import lightgbm

    cls = type(model)
    flavor = {
        "code": None,
        "data": file,
        "lgb_version": lightgbm.__version__,
        "model_class": f"{cls.__module__}.{cls.__qualname__}",
        **serialization,
    }
    flavors: dict[str, Any] = {"lightgbm": flavor}
    if hasattr(model, "predict"):
        flavors["python_function"] = pyfunc_flavor("mlflow.lightgbm", data=file)
    write_mlmodel(directory, flavors)
    write_environment(directory, ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy", "skops"))


def preview_lightgbm_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a booster or a wrapper; of a wrapper the parameters that are set."""
    import lightgbm

    is_booster = isinstance(value, lightgbm.Booster)
    parameters = value.params if is_booster else _non_null_parameters(value.get_params())
    fitted = is_booster or value.__sklearn_is_fitted__()
    weights = _feature_gains(value if is_booster else value.booster_) if fitted else []
    shape = str(summary.get("shape", ""))
    return {PREVIEW_HTML: model_page(type(value).__qualname__, shape, parameters, weights, "Total gain of features")}


def _non_null_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _feature_gains(booster: Any) -> list[tuple[str, float]]:
    gains = booster.feature_importance(importance_type="gain")
    return [(str(name), float(gain)) for name, gain in zip(booster.feature_name(), gains, strict=True)]
