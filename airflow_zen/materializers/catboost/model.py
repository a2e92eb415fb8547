"""CatBoost models to MLflow Model directories and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import catboost

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.mlflow_model import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.previews.html import PREVIEW_HTML
from airflow_zen.materializers.previews.models import model_page
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer

MODEL_FILE = "model.cb"
STATE_FILE = "state.json"

# Where CatBoost's own `__getstate__` puts the trained model, in the format of its files.
_TRAINED_KEY = "__model"

_CLASSES = {
    name: getattr(catboost, name) for name in ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")
}


def save_catboost_model(materializer: Materializer, model: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that would not come back."""
    name = next((name for name, cls in _CLASSES.items() if type(model) is cls), None)
    if name is None:
        raise SaveRefused(f"{type_name(type(model))} is a subclass that would come back as its base class.")
    state = dict(model.__getstate__())
    trained = state.pop(_TRAINED_KEY, None)
    parts = write_typed_json(materializer, {"class": name, "state": state}, directory, STATE_FILE)
    summary = {"shape": name, "estimator": name}
    if trained is not None:
        (directory / MODEL_FILE).write_bytes(trained)
        _write_mlflow_files(name, directory)
        summary["shape"] = f"{name} of {len(model.feature_names_)} features, {model.tree_count_} trees"
    return {**summary, "parts": parts} if parts else summary


def load_catboost_model(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_catboost_model` wrote."""
    metadata = read_typed_json(materializer, directory, STATE_FILE)
    cls = _CLASSES.get(metadata["class"])
    if cls is None:
        raise ArtifactRefused(f"catboost.mlflow@1 keeps {', '.join(_CLASSES)}, not {metadata['class']!r}.")
    state = dict(metadata["state"])
    if (directory / MODEL_FILE).exists():
        state[_TRAINED_KEY] = (directory / MODEL_FILE).read_bytes()
    model = cls.__new__(cls)
    model.__setstate__(state)
    return model


def _write_mlflow_files(name: str, directory: Path) -> None:
    flavor = {
        "catboost_version": catboost.__version__,
        "code": None,
        "data": MODEL_FILE,
        "model_type": name,
        "save_format": "cbm",
    }
    write_mlmodel(directory, {"catboost": flavor, "python_function": pyfunc_flavor("mlflow.catboost", data=MODEL_FILE)})
    write_environment(directory, ("catboost", "numpy", "pandas", "scipy"))


def preview_catboost_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a model."""
    shape = str(summary.get("shape", ""))
    weights = _feature_importances(value) if value.is_fitted() else []
    return {
        PREVIEW_HTML: model_page(
            type(value).__qualname__, shape, value.get_params(), weights, "Change of predictions, in %"
        )
    }


def _feature_importances(model: Any) -> list[tuple[str, float]]:
    try:
        found = model.get_feature_importance()
    except catboost.CatBoostError:
        return []  # rankers and some losses ask for the data
    return [(str(name), float(weight)) for name, weight in zip(model.feature_names_, found, strict=True)]
