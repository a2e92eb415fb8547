"""Keras 3 models as MLflow Model directories."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel
from airflow_zen.materializers.previews.html import Markup, preformatted
from airflow_zen.type_names import type_name

DATA_FOLDER = "data"
MODEL_FILE = "model.keras"
TRAINABLE_FILE = "trainable.json"

_SHARED_OBJECT_ID = re.compile(rb'"shared_object_id": (\d+)')
_MISSING = object()


class KerasMaterializer(ModelMaterializer):
    """Save a model with its weights, optimizer and compilation, in the layout of `mlflow.keras.save_model`.

    Refused: lambdas, and own layers or functions that Keras cannot find again (use
    `keras.saving.register_keras_serializable`).
    """

    types = ("keras.Model",)
    encoding = "keras.mlflow@1"
    libraries = ("keras", "tensorflow", "tensorflow-cpu", "torch", "jax")
    extra = "tensorflow"
    requirements = ("keras", "numpy", "pandas", "tensorflow", "tensorflow-cpu")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `data/model.keras`; raises `SaveRefused` for a model that would not come back."""
        import keras

        (directory / DATA_FOLDER).mkdir()
        _write_checked(model, directory)
        (directory / DATA_FOLDER / "keras_module.txt").write_text("keras", encoding="utf-8")
        flavor = {
            "data": DATA_FOLDER,
            "keras_backend": keras.backend.backend(),
            "keras_version": keras.__version__,
            "save_exported_model": False,
        }
        return WrittenModel(f"{type(model).__qualname__} of {model.count_params()} parameters", flavor, {})

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model without running code from its file: Keras refuses lambdas."""
        import keras

        data = directory / DATA_FOLDER
        model = keras.saving.load_model(data / MODEL_FILE, safe_mode=True)
        if (data / TRAINABLE_FILE).exists():
            _set_trainable_flags(model, json.loads((data / TRAINABLE_FILE).read_text("utf-8")))
        return model

    def sections(self, model: Any) -> Iterator[Markup]:
        """Return the layers with their shapes and parameters."""
        lines: list[str] = []
        model.summary(line_length=100, print_fn=lambda line, **_: lines.append(str(line)))
        yield preformatted("\n".join(lines))


def _write_checked(model: Any, directory: Path) -> None:
    """Write the model, and load it once; raises `SaveRefused` where the loaded model is another one."""
    import keras

    data, written = directory / DATA_FOLDER, directory / MODEL_FILE
    try:
        model.save(written)
        loaded = keras.saving.load_model(written, safe_mode=True)
    except Exception as error:
        raise SaveRefused(f"Keras does not keep this {type(model).__qualname__}: {error}") from error
    _check_weights(model, loaded)
    if (flags := _trainable_flags(model)) != _trainable_flags(loaded):
        (data / TRAINABLE_FILE).write_text(json.dumps(flags), encoding="utf-8")
        _set_trainable_flags(loaded, flags)
    _check_settings(model, loaded)
    _write_reproducible_file(written, data / MODEL_FILE)
    written.unlink()


def _check_weights(model: Any, loaded: Any) -> None:
    """Raise `SaveRefused` where Keras lost the class or a weight, which may happen with own layers."""
    import numpy as np

    pairs = zip(model.weights, loaded.weights, strict=False)
    equal = (np.array_equal(one.numpy(), other.numpy(), equal_nan=True) for one, other in pairs)
    if type(loaded) is not type(model) or len(loaded.weights) != len(model.weights) or not all(equal):
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with all its weights. Give its layers get_config() and "
            f"build(), and register them with keras.saving.register_keras_serializable."
        )


def _trainable_flags(model: Any) -> list[bool]:
    """Return whether the model and each layer in it is trainable; Keras stores that of some layers only."""
    return [bool(layer.trainable) for layer in model._flatten_layers()]  # noqa: SLF001


def _set_trainable_flags(model: Any, flags: list[bool]) -> None:
    """Set the flags from the outside in: setting the flag of a layer sets it on the layers inside."""
    for layer, flag in zip(model._flatten_layers(), flags, strict=False):  # noqa: SLF001
        if bool(layer.trainable) != flag:
            layer.trainable = flag


def _check_settings(model: Any, loaded: Any) -> None:
    """Raise `SaveRefused` where a layer lost a number or text of its own __init__, or other parts are trainable."""
    layers = zip(model._flatten_layers(), loaded._flatten_layers(), strict=False)  # noqa: SLF001
    lost = [f"{one.name}.{name}" for one, other in layers for name in _changed_settings(one, other)]
    if lost or _trainable_flags(model) != _trainable_flags(loaded):
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with {', '.join(lost[:5]) or 'the same parts frozen'}. Return all "
            "arguments of __init__ from get_config() of that class, and set them in __init__."
        )


def _changed_settings(one: Any, other: Any) -> list[str]:
    import keras

    if type(one).__module__.partition(".")[0] in ("keras", "tensorflow"):
        return []
    plain = (bool, int, float, str, type(None))
    # Only arguments of __init__ are settings; Keras also notes progress there, such as whether training was stopped.
    own = signature(type(one).__init__).parameters.keys() - signature(keras.layers.Layer.__init__).parameters.keys()
    settings = {name: vars(one)[name] for name in own & vars(one).keys() if type(vars(one)[name]) in plain}
    return [name for name, value in sorted(settings.items()) if getattr(other, name, _MISSING) != value]


def _write_reproducible_file(source: Path, target: Path) -> None:
    """Copy a Keras file without the time of writing; number shared objects, which Keras names by memory addresses."""
    numbers: dict[bytes, int] = {}
    with ZipFile(source) as dated, ZipFile(target, "w", ZIP_STORED) as undated:
        for name in sorted(dated.namelist()):
            content = dated.read(name)
            if name == "metadata.json":
                kept = {key: item for key, item in json.loads(content).items() if key != "date_saved"}
                content = json.dumps(kept).encode()
            elif name == "config.json":
                content = _SHARED_OBJECT_ID.sub(
                    lambda found: b'"shared_object_id": %d' % numbers.setdefault(found[1], len(numbers)), content
                )
            undated.writestr(ZipInfo(name), content)
