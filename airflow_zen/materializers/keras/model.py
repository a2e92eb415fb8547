"""Keras models to MLflow Model directories and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import keras
import numpy as np

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.mlmodel import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.names import type_name

FOLDER = "data"
MODEL = "model.keras"

_METADATA = "metadata.json"


def save_model(model: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that could not be loaded again."""
    (directory / FOLDER).mkdir()
    written = directory / MODEL
    try:
        model.save(written)
        loaded = keras.saving.load_model(written, safe_mode=True)
    except Exception as error:
        raise SaveRefused(f"Keras does not keep this {type(model).__qualname__}: {error}") from error
    _check_same(model, loaded)
    _write_undated(written, directory / FOLDER / MODEL)
    written.unlink()
    (directory / FOLDER / "keras_module.txt").write_text("keras", encoding="utf-8")
    flavor = {
        "data": FOLDER,
        "keras_backend": keras.backend.backend(),
        "keras_version": keras.__version__,
        "save_exported_model": False,
    }
    loader = pyfunc_flavor("mlflow.keras")
    write_mlmodel(directory, {"keras": flavor, "python_function": loader})
    write_environment(directory, ("keras", "numpy", "pandas", "tensorflow", "tensorflow-cpu"))
    shape = f"{type(model).__qualname__} of {model.count_params()} parameters"
    return {"shape": shape, "estimator": type(model).__qualname__}


def load_model(directory: Path) -> Any:
    """Read what `save_model` wrote; lambdas in it are refused."""
    return keras.saving.load_model(directory / FOLDER / MODEL, safe_mode=True)


def _check_same(model: Any, loaded: Any) -> None:
    """See that Keras found the class and every weight again, which it does not promise for layers of one's own."""
    kept = type(loaded) is type(model) and len(model.weights) == len(loaded.weights)
    if not kept or not all(
        np.array_equal(one.numpy(), other.numpy(), equal_nan=True)
        for one, other in zip(model.weights, loaded.weights, strict=True)
    ):
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with all its weights. Give its layers get_config() and "
            f"build(), and register them with keras.saving.register_keras_serializable."
        )


def _write_undated(source: Path, target: Path) -> None:
    """Copy a Keras file without the moment it was written at."""
    with ZipFile(source) as dated, ZipFile(target, "w", ZIP_STORED) as undated:
        for name in sorted(dated.namelist()):
            content = dated.read(name)
            if name == _METADATA:
                kept = {key: item for key, item in json.loads(content).items() if key != "date_saved"}
                content = json.dumps(kept).encode()
            undated.writestr(ZipInfo(name), content)
