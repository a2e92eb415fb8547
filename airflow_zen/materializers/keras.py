"""Keras 3 models as plain MLflow Model directories."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.mlflow_model import pyfunc_flavor, write_environment, write_mlmodel
from airflow_zen.materializers.previews.html import PREVIEW_HTML, html_page, preformatted
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    pass


class KerasMaterializer(Materializer):
    """Save a model with its weights, optimizer and compilation, the way `mlflow.keras.save_model` lays it out.

    Refused: lambdas, and own layers or functions that Keras cannot find again (use
    `keras.saving.register_keras_serializable`).
    """

    types = ("keras.Model",)
    encoding = "keras.mlflow@1"
    libraries = ("keras", "tensorflow", "tensorflow-cpu", "torch", "jax")
    extra = "tensorflow"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `MLmodel`, `data/model.keras` and the environment."""
        return save_keras_model(value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the layers."""
        return preview_keras_model(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model, without running code that lies in it."""
        return load_keras_model(directory)


DATA_FOLDER = "data"
MODEL_FILE = "model.keras"

TRAINABLE_FILE = "trainable.json"

_METADATA_ENTRY = "metadata.json"
_CONFIG_ENTRY = "config.json"
_SHARED_OBJECT_ID = re.compile(rb'"shared_object_id": (\d+)')
_MISSING = object()


def save_keras_model(model: Any, directory: Path) -> Mapping[str, Any]:
    """Write the directory; raises `SaveRefused` for a model that could not be loaded again."""
    import keras

    (directory / DATA_FOLDER).mkdir()
    written = directory / MODEL_FILE
    try:
        model.save(written)
        loaded = keras.saving.load_model(written, safe_mode=True)
    except Exception as error:
        raise SaveRefused(f"Keras does not keep this {type(model).__qualname__}: {error}") from error
    _check_weights_restored(model, loaded)
    if _trainable_flags(model) != _trainable_flags(loaded):
        (directory / DATA_FOLDER / TRAINABLE_FILE).write_text(json.dumps(_trainable_flags(model)), encoding="utf-8")
        _set_trainable_flags(loaded, _trainable_flags(model))
    _check_settings_restored(model, loaded)
    _write_reproducible_file(written, directory / DATA_FOLDER / MODEL_FILE)
    written.unlink()
    (directory / DATA_FOLDER / "keras_module.txt").write_text("keras", encoding="utf-8")
    flavor = {
        "data": DATA_FOLDER,
        "keras_backend": keras.backend.backend(),
        "keras_version": keras.__version__,
        "save_exported_model": False,
    }
    loader = pyfunc_flavor("mlflow.keras")
    write_mlmodel(directory, {"keras": flavor, "python_function": loader})
    write_environment(directory, ("keras", "numpy", "pandas", "tensorflow", "tensorflow-cpu"))
    shape = f"{type(model).__qualname__} of {model.count_params()} parameters"
    return {"shape": shape, "estimator": type(model).__qualname__}


def load_keras_model(directory: Path) -> Any:
    """Read what `save_keras_model` wrote; lambdas in it are refused."""
    import keras

    model = keras.saving.load_model(directory / DATA_FOLDER / MODEL_FILE, safe_mode=True)
    if (directory / DATA_FOLDER / TRAINABLE_FILE).exists():
        _set_trainable_flags(model, json.loads((directory / DATA_FOLDER / TRAINABLE_FILE).read_text("utf-8")))
    return model


def _trainable_flags(model: Any) -> list[bool]:
    """Say of the model and each layer in it whether it learns; Keras keeps that of some only."""
    return [bool(layer.trainable) for layer in model._flatten_layers()]  # noqa: SLF001


def _set_trainable_flags(model: Any, flags: list[bool]) -> None:
    """Set the flags from the outside in: what is set on a layer is set on those in it."""
    for layer, flag in zip(model._flatten_layers(), flags, strict=False):  # noqa: SLF001
        if bool(layer.trainable) != flag:
            layer.trainable = flag


def _check_settings_restored(model: Any, loaded: Any) -> None:
    """See that layers of one's own have the numbers and texts they were made with, and that the same parts learn."""
    layers = zip(model._flatten_layers(), loaded._flatten_layers(), strict=False)  # noqa: SLF001
    lost = [f"{one.name}.{name}" for one, other in layers for name in _changed_settings(one, other)]
    if lost or _trainable_flags(model) != _trainable_flags(loaded):
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with {', '.join(lost[:5]) or 'the same parts frozen'}. Give that class "
            "get_config() with all that it takes, and set it in __init__."
        )


def _changed_settings(one: Any, other: Any) -> list[str]:
    import keras

    if type(one).__module__.partition(".")[0] in ("keras", "tensorflow"):
        return []
    plain = (bool, int, float, str, type(None))
    # What it was made with; what Keras notes beside that, such as whether a training was stopped, is no setting.
    taken = signature(type(one).__init__).parameters.keys() - signature(keras.layers.Layer.__init__).parameters.keys()
    facts = {name: vars(one)[name] for name in taken & vars(one).keys() if type(vars(one)[name]) in plain}
    return [name for name, value in sorted(facts.items()) if getattr(other, name, _MISSING) != value]


def _check_weights_restored(model: Any, loaded: Any) -> None:
    """See that Keras found the class and every weight again, which it does not promise for layers of one's own."""
    import numpy as np

    kept = type(loaded) is type(model) and len(model.weights) == len(loaded.weights)
    if not kept or not all(
        np.array_equal(one.numpy(), other.numpy(), equal_nan=True)
        for one, other in zip(model.weights, loaded.weights, strict=True)
    ):
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with all its weights. Give its layers get_config() and "
            f"build(), and register them with keras.saving.register_keras_serializable."
        )


def _write_reproducible_file(source: Path, target: Path) -> None:
    """Copy a Keras file without the moment it was written at, and where its objects lay."""
    with ZipFile(source) as dated, ZipFile(target, "w", ZIP_STORED) as undated:
        for name in sorted(dated.namelist()):
            content = dated.read(name)
            if name == _METADATA_ENTRY:
                kept = {key: item for key, item in json.loads(content).items() if key != "date_saved"}
                content = json.dumps(kept).encode()
            undated.writestr(ZipInfo(name), _renumber_shared_objects(content) if name == _CONFIG_ENTRY else content)


def _renumber_shared_objects(config: bytes) -> bytes:
    """Give what is shared a number by its first place: Keras writes addresses of this process."""
    numbers: dict[bytes, int] = {}
    return _SHARED_OBJECT_ID.sub(
        lambda found: b'"shared_object_id": %d' % numbers.setdefault(found[1], len(numbers)), config
    )


def preview_keras_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the layers with their shapes and parameters."""
    lines: list[str] = []
    value.summary(line_length=100, print_fn=lambda line, **_: lines.append(str(line)))
    return {
        PREVIEW_HTML: html_page(
            type(value).__qualname__, str(summary.get("shape", "")), [preformatted("\n".join(lines))]
        )
    }
