"""XGBoost boosters and scikit-learn wrappers as plain MLflow Model directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.mlflow_model import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.previews.html import PREVIEW_HTML
from airflow_zen.materializers.previews.models import model_page
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import class_reference, resolve_class, type_name

if TYPE_CHECKING:
    import xgboost


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
        return save_xgboost_model(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show parameters and gains of features."""
        return preview_xgboost_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the booster, and the wrapper around it."""
        return load_xgboost_model(self, directory, wanted)


MODEL_FILE = "model.ubj"
CONFIG_FILE = "config.json"
STATE_FILE = "state.json"

# The wrapper's save_model leaves it in the file, where mlflow needs it; the booster itself has none.
_WRAPPER_ATTRIBUTE = "scikit_learn"


def save_xgboost_model(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for parameters that would not come back."""
    import xgboost

    is_booster = type(value) is xgboost.Booster
    if isinstance(value, xgboost.Booster) and not is_booster:
        raise SaveRefused(f"{type_name(type(value))} is a subclass of xgboost.Booster that would come back as that.")
    booster = value if is_booster else vars(value).get("_Booster")
    state = {} if is_booster else {name: item for name, item in vars(value).items() if name != "_Booster"}
    metadata = {"class": class_reference(type(value)), "state": state}
    parts = write_typed_json(materializer, metadata, directory, STATE_FILE)
    if booster is not None:
        value.save_model(directory / MODEL_FILE)
        (directory / CONFIG_FILE).write_text(booster.save_config(), encoding="utf-8")
        _write_mlflow_files(type(value), directory)
    summary = {"shape": _model_shape(value, booster), "estimator": type(value).__qualname__}
    return {**summary, "parts": parts} if parts else summary


def load_xgboost_model(materializer: Materializer, directory: Path, wanted: type | None = None) -> Any:
    """Read what `save_xgboost_model` wrote."""
    import xgboost

    metadata = read_typed_json(materializer, directory, STATE_FILE)
    cls = resolve_class(metadata["class"], wanted)
    if not issubclass(cls, xgboost.Booster | xgboost.XGBModel):
        raise ArtifactRefused(f"{metadata['class']} is no XGBoost model here, and the artifact says it is one.")
    booster = _load_booster(directory) if (directory / MODEL_FILE).exists() else None
    if issubclass(cls, xgboost.Booster):
        return booster
    model: Any = cls.__new__(cls)
    vars(model).update(metadata["state"])
    if booster is not None:
        booster.set_attr(**{_WRAPPER_ATTRIBUTE: None})
        model._Booster = booster  # noqa: SLF001 - where every XGBModel keeps what fit() gave it
    return model


def _load_booster(directory: Path) -> xgboost.Booster:
    import xgboost

    booster = xgboost.Booster(model_file=directory / MODEL_FILE)
    booster.load_config((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    return booster


def _write_mlflow_files(cls: type, directory: Path) -> None:
    import xgboost

    flavor = {
        "code": None,
        "data": MODEL_FILE,
        "model_class": f"{cls.__module__}.{cls.__qualname__}",
        "model_format": "ubj",
        "xgb_version": xgboost.__version__,
    }
    loader = pyfunc_flavor("mlflow.xgboost", data=MODEL_FILE)
    write_mlmodel(directory, {"xgboost": flavor, "python_function": loader})
    write_environment(directory, ("numpy", "pandas", "scikit-learn", "scipy", "xgboost", "xgboost-cpu"))


def _model_shape(value: Any, booster: xgboost.Booster | None) -> str:
    name = type(value).__qualname__
    if booster is None:
        return f"{name}, not fitted"
    return f"{name} of {booster.num_features()} features, {booster.num_boosted_rounds()} rounds"


def preview_xgboost_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a booster or a wrapper; of a wrapper the parameters that are set."""
    import xgboost

    is_booster = isinstance(value, xgboost.Booster)
    parameters = {} if is_booster else {name: held for name, held in value.get_params().items() if held is not None}
    weights = _feature_gains(value if is_booster else vars(value).get("_Booster"))
    shape = str(summary.get("shape", ""))
    return {PREVIEW_HTML: model_page(type(value).__qualname__, shape, parameters, weights, "Mean gain of features")}


def _feature_gains(booster: Any) -> list[tuple[str, float]]:
    import xgboost

    try:
        found = booster.get_score(importance_type="gain").items() if booster else ()
    except (ValueError, xgboost.core.XGBoostError):
        return []  # linear boosters have no gain
    return [(str(name), float(gain)) for name, gain in found if not isinstance(gain, list)]
