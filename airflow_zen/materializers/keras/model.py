"""Keras models to MLflow Model directories and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from inspect import signature
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

FROZEN = "trainable.json"

_METADATA = "metadata.json"
_CONFIG = "config.json"
_SHARED = re.compile(rb'"shared_object_id": (\d+)')
_ABSENT = object()


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
    if _trainable(model) != _trainable(loaded):
        (directory / FOLDER / FROZEN).write_text(json.dumps(_trainable(model)), encoding="utf-8")
        _set_trainable(loaded, _trainable(model))
    _check_facts(model, loaded)
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
    model = keras.saving.load_model(directory / FOLDER / MODEL, safe_mode=True)
    if (directory / FOLDER / FROZEN).exists():
        _set_trainable(model, json.loads((directory / FOLDER / FROZEN).read_text("utf-8")))
    return model


def _trainable(model: Any) -> list[bool]:
    """Say of the model and each layer in it whether it learns; Keras keeps that of some only."""
    return [bool(layer.trainable) for layer in model._flatten_layers()]  # noqa: SLF001


def _set_trainable(model: Any, flags: list[bool]) -> None:
    """Set the flags from the outside in: what is set on a layer is set on those in it."""
    for layer, flag in zip(model._flatten_layers(), flags, strict=False):  # noqa: SLF001
        if bool(layer.trainable) != flag:
            layer.trainable = flag


def _check_facts(model: Any, loaded: Any) -> None:
    """See that layers of one's own have the numbers and texts they were made with, and that the same parts learn."""
    layers = zip(model._flatten_layers(), loaded._flatten_layers(), strict=False)  # noqa: SLF001
    lost = [f"{one.name}.{name}" for one, other in layers for name in _differing(one, other)]
    if lost or _trainable(model) != _trainable(loaded):
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with {', '.join(lost[:5]) or 'the same parts frozen'}. Give that class "
            "get_config() with all that it takes, and set it in __init__."
        )


def _differing(one: Any, other: Any) -> list[str]:
    if type(one).__module__.partition(".")[0] in ("keras", "tensorflow"):
        return []
    plain = (bool, int, float, str, type(None))
    # What it was made with; what Keras notes beside that, such as whether a training was stopped, is no setting.
    taken = signature(type(one).__init__).parameters.keys() - signature(keras.layers.Layer.__init__).parameters.keys()
    facts = {name: vars(one)[name] for name in taken & vars(one).keys() if type(vars(one)[name]) in plain}
    return [name for name, value in sorted(facts.items()) if getattr(other, name, _ABSENT) != value]


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
    """Copy a Keras file without the moment it was written at, and where its objects lay."""
    with ZipFile(source) as dated, ZipFile(target, "w", ZIP_STORED) as undated:
        for name in sorted(dated.namelist()):
            content = dated.read(name)
            if name == _METADATA:
                kept = {key: item for key, item in json.loads(content).items() if key != "date_saved"}
                content = json.dumps(kept).encode()
            undated.writestr(ZipInfo(name), _numbered(content) if name == _CONFIG else content)


def _numbered(config: bytes) -> bytes:
    """Give what is shared a number by its first place: Keras writes addresses of this process."""
    numbers: dict[bytes, int] = {}
    return _SHARED.sub(lambda found: b'"shared_object_id": %d' % numbers.setdefault(found[1], len(numbers)), config)
