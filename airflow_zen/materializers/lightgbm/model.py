"""LightGBM models to MLflow Model directories and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.mlmodel import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.sklearn.skops_file import estimator_shape, read_estimator, write_estimator
from airflow_zen.materializers.tree import read_typed_json, write_typed_json

BOOSTER_FILE = "model.lgb"
ALL_TREES_FILE = "complete.lgb"
STATE_FILE = "state.json"
WRAPPER_FILE = "model.skops"

_ALL_ITERATIONS = -1


def save_lightgbm_model(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that would not come back."""
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
    if (directory / WRAPPER_FILE).exists():
        return read_estimator(directory / WRAPPER_FILE)
    file = directory / (ALL_TREES_FILE if (directory / ALL_TREES_FILE).exists() else BOOSTER_FILE)
    booster = lightgbm.Booster(model_file=file)
    for name, item in read_typed_json(materializer, directory, STATE_FILE).items():
        setattr(booster, name, item)
    return booster


def _save_booster(materializer: Materializer, booster: Any, directory: Path) -> list[dict[str, str]]:
    """Write all trees; where training went on past the best iteration, mlflow gets those up to it."""
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
