"""CatBoost models to MLflow Model directories and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import catboost

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.mlmodel import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.tree import read_tree, write_tree

MODEL = "model.cb"
STATE = "state.json"

# Where CatBoost's own `__getstate__` puts the trained model, in the format of its files.
_TRAINED = "__model"

_CLASSES = {
    name: getattr(catboost, name) for name in ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")
}


def save_model(materializer: Materializer, model: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that would not come back."""
    name = next((name for name, cls in _CLASSES.items() if type(model) is cls), None)
    if name is None:
        raise SaveRefused(f"{type_name(type(model))} is a subclass that would come back as its base class.")
    state = dict(model.__getstate__())
    trained = state.pop(_TRAINED, None)
    parts = write_tree(materializer, {"class": name, "state": state}, directory, STATE)
    summary = {"shape": name, "estimator": name}
    if trained is not None:
        (directory / MODEL).write_bytes(trained)
        _describe(name, directory)
        summary["shape"] = f"{name} of {len(model.feature_names_)} features, {model.tree_count_} trees"
    return {**summary, "parts": parts} if parts else summary


def load_model(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_model` wrote."""
    note = read_tree(materializer, directory, STATE)
    cls = _CLASSES.get(note["class"])
    if cls is None:
        raise ArtifactRefused(f"catboost.mlflow@1 keeps {', '.join(_CLASSES)}, not {note['class']!r}.")
    state = dict(note["state"])
    if (directory / MODEL).exists():
        state[_TRAINED] = (directory / MODEL).read_bytes()
    model = cls.__new__(cls)
    model.__setstate__(state)
    return model


def _describe(name: str, directory: Path) -> None:
    flavor = {
        "catboost_version": catboost.__version__,
        "code": None,
        "data": MODEL,
        "model_type": name,
        "save_format": "cbm",
    }
    write_mlmodel(directory, {"catboost": flavor, "python_function": pyfunc_flavor("mlflow.catboost", data=MODEL)})
    write_environment(directory, ("catboost", "numpy", "pandas", "scipy"))
