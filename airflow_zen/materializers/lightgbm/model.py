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
from airflow_zen.materializers.tree import read_tree, write_tree

BOOSTER = "model.lgb"
COMPLETE = "complete.lgb"
STATE = "state.json"
WRAPPER = "model.skops"

_ALL_ITERATIONS = -1


def save_model(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that would not come back."""
    if isinstance(value, lightgbm.Booster):
        parts = _save_booster(materializer, value, directory)
        shape = f"Booster of {value.num_feature()} features, {value.num_trees()} trees"
        summary = {"shape": shape, "estimator": "Booster"}
        return {**summary, "parts": parts} if parts else summary
    trusted = write_estimator(value, directory / WRAPPER)
    _describe(value, directory, WRAPPER, {"serialization_format": "skops", "skops_trusted_types": trusted})
    return {"shape": estimator_shape(value), "estimator": type(value).__qualname__}


def load_model(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_model` wrote."""
    if (directory / WRAPPER).exists():
        return read_estimator(directory / WRAPPER)
    file = directory / (COMPLETE if (directory / COMPLETE).exists() else BOOSTER)
    booster = lightgbm.Booster(model_file=file)
    for name, item in read_tree(materializer, directory, STATE).items():
        setattr(booster, name, item)
    return booster


def _save_booster(materializer: Materializer, booster: Any, directory: Path) -> list[dict[str, str]]:
    """Write all trees; where training went on past the best iteration, mlflow gets those up to it."""
    if type(booster) is not lightgbm.Booster:
        raise SaveRefused(f"{type_name(type(booster))} is a subclass of lightgbm.Booster that would come back as that.")
    stopped = 0 < booster.best_iteration < booster.current_iteration()
    booster.save_model(directory / (COMPLETE if stopped else BOOSTER), num_iteration=_ALL_ITERATIONS)
    if stopped:
        booster.save_model(directory / BOOSTER, num_iteration=booster.best_iteration)
    kept = {name: getattr(booster, name) for name in ("best_iteration", "best_score", "params")}
    parts = write_tree(materializer, kept, directory, STATE)
    _describe(booster, directory, BOOSTER, {"serialization_format": None, "skops_trusted_types": None})
    return parts


def _describe(model: Any, directory: Path, file: str, how: Mapping[str, Any]) -> None:
    cls = type(model)
    flavor = {
        "code": None,
        "data": file,
        "lgb_version": lightgbm.__version__,
        "model_class": f"{cls.__module__}.{cls.__qualname__}",
        **how,
    }
    flavors: dict[str, Any] = {"lightgbm": flavor}
    if hasattr(model, "predict"):
        flavors["python_function"] = pyfunc_flavor("mlflow.lightgbm", data=file)
    write_mlmodel(directory, flavors)
    write_environment(directory, ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy", "skops"))
