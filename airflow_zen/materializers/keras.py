"""Keras 3 models as MLflow Model directories."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from inspect import signature
from itertools import chain
from pathlib import Path
from threading import Lock
from types import FunctionType
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.mlflow_model import STATE_FILE, ModelMaterializer, WrittenModel
from airflow_zen.materializers.previews.html import Markup, preformatted
from airflow_zen.type_names import record_definition, type_name

DATA_FOLDER = "data"
MODEL_FILE = "model.keras"

_WAY_OUT = (
    "Or write what Keras can: model.save_weights('model.weights.h5') and return pathlib.Path('model.weights.h5'), and "
    "build the model again in the step that loads them."
)
_POLICY_LOCK = Lock()
_SHARED_OBJECT_ID = re.compile(rb'"shared_object_id": (\d+)')
_MISSING = object()
# State of training and of quantization; the file has the names, except those of layers inside a layer.
_NOTES = frozenset(
    {
        "history",
        "stop_training",
        "stop_evaluating",
        "stop_predicting",
        "is_awq_calibrated",
        "is_gptq_calibrated",
        "name",
    }
)


class KerasMaterializer(ModelMaterializer):
    """Save a model with its weights, optimizer and compilation, in the layout of `mlflow.keras.save_model`.

    Also kept: arguments of losses and metrics, the state of random numbers and of stateful layers, which weights are
    trainable, the optimizer of a model that was frozen after it was compiled, attributes that were set on the model or
    a layer, and the loss scale under mixed precision. Not kept: the counts of metrics. Refused: lambdas, and custom
    layers or functions that Keras cannot find again (use `keras.saving.register_keras_serializable`).
    """

    types = ("keras.Model",)
    encoding = "keras.mlflow@2"
    reads = ("keras.mlflow@1",)
    libraries = ("keras", "tensorflow", "tensorflow-cpu", "torch", "jax")
    extra = "tensorflow"
    requirements = ("keras", "numpy", "pandas", "tensorflow")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `data/model.keras`; raises `SaveRefused` for a model that would not come back."""
        import keras

        (directory / DATA_FOLDER).mkdir()
        state = _write_checked(model, directory)
        (directory / DATA_FOLDER / "keras_module.txt").write_text("keras", encoding="utf-8")
        flavor = {"data": DATA_FOLDER, "save_exported_model": False}
        size = f"of {model.count_params()} parameters" if model.built else "that is not built"
        shape = f"{type(model).__qualname__} {size}"
        made_with = {"keras_backend": keras.backend.backend(), "keras_version": keras.__version__}
        return WrittenModel(shape, flavor, {}, state or None, made_with=made_with)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model without running code from its file: Keras refuses lambdas."""
        state = self.read_state(directory) if (directory / STATE_FILE).exists() else {}
        model = _read_keras_file(directory / DATA_FOLDER / MODEL_FILE, state)
        _set_state(model, state)
        return model

    def sections(self, model: Any) -> Iterator[Markup]:
        """Return the layers with their shapes and parameters."""
        lines: list[str] = []
        model.summary(line_length=100, print_fn=lambda line, **_: lines.append(str(line)))
        yield preformatted("\n".join(lines))


def _write_checked(model: Any, directory: Path) -> dict[str, Any]:
    """Write the model, and load it once; return the state that its file does not contain.

    Raises `SaveRefused` if the loaded model differs.
    """
    policy = {} if model.dtype_policy.name == "float32" else {"policy": model.dtype_policy.name}
    written, state = directory / MODEL_FILE, {**policy, **_optimizer_state(model)}
    try:
        model.save(written)
        loaded = _read_keras_file(written, state)
    except Exception as error:
        raise SaveRefused(
            f"Keras does not keep this {type(model).__qualname__}: {_reason(error)}. Register your own classes and functions "
            "with @keras.saving.register_keras_serializable(), return all arguments of __init__ from get_config(), and write "
            f"lambdas as functions. {_WAY_OUT}"
        ) from error
    _check_weights(model, loaded)
    found = _full_state(loaded)
    lost = {name: held for name, held in _full_state(model).items() if held != found[name]}
    if attributes := _lost_attributes(model, loaded):
        lost["attributes"] = attributes
    _set_state(loaded, lost)
    _check_settings(model, loaded)
    _record_definitions(written)
    _write_reproducible_file(written, directory / DATA_FOLDER / MODEL_FILE)
    written.unlink()
    return {**state, **lost}


def _reason(error: Exception) -> str:
    """Return the innermost reason of a Keras error, without the configuration and the advice that follow it."""
    reason = str(error).rpartition("Exception encountered: ")[2]
    return re.split(r"\.? *\n|\. ", reason.strip(), maxsplit=1)[0]


def _read_keras_file(path: Path, state: Mapping[str, Any]) -> Any:
    """Read a model under the dtype policy that it was made under, which decides whether its optimizer scales the loss."""
    import keras

    with _POLICY_LOCK:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(state.get("policy", "float32"))
        try:
            model = keras.saving.load_model(path, compile="optimizer" not in state, safe_mode=True)
            if "optimizer" in state:
                _compile(model, state["optimizer"], path)
            return model
        finally:
            keras.config.set_dtype_policy(before)


def _record_definitions(path: Path) -> None:
    """Record the classes and functions that a Keras file names, by the name they are registered under or by their module."""
    import keras

    with ZipFile(path) as file:
        pending: list[Any] = [json.loads(file.read("config.json"))]
    registered = keras.saving.get_custom_objects()
    for node in pending:
        pending += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        found = registered.get(node) if isinstance(node, str) else None
        if isinstance(node, dict) and node.get("class_name"):
            name = node.get("config") if node["class_name"] == "function" else node["class_name"]
            found = getattr(sys.modules.get(node.get("module") or ""), str(name), None)
        if isinstance(found, type | FunctionType):
            record_definition(found)


def _optimizer_state(model: Any) -> dict[str, Any]:
    """Return the weights that the optimizer updates and does not decay, if Keras would choose others after loading."""
    optimizer = _inner_optimizer(model)
    if optimizer is None:
        return {}
    places = {id(weight): place for place, weight in enumerate(model.weights)}
    trainable = [places[id(variable)] for variable in model.trainable_variables]
    built = [places.get(id(variable), -1) for variable in optimizer._trainable_variables]  # noqa: SLF001
    kept = [place for place, weight in enumerate(model.weights) if not optimizer._use_weight_decay(weight)]  # noqa: SLF001
    updated = built if optimizer.built else trainable
    if updated == trainable and not kept and not _frozen_weights(model):
        return {}
    return {"optimizer": {"updated": updated, "not_decayed": kept}}


def _frozen_weights(model: Any) -> list[int]:
    """Return the positions of frozen weights in layers that are not frozen."""
    layers = [layer for layer in model._flatten_layers() if layer.trainable]  # noqa: SLF001
    own = chain.from_iterable(layer._trainable_variables for layer in layers)  # noqa: SLF001
    frozen = {id(variable) for variable in own if not variable.trainable}
    return [place for place, weight in enumerate(model.weights) if id(weight) in frozen]


def _compile(model: Any, held: Mapping[str, Any], path: Path) -> None:
    """Compile a model that was loaded without compilation, with the optimizer for its original trainable weights."""
    import keras

    with ZipFile(path) as file:
        config = json.loads(file.read("config.json"))["compile_config"]
    model.compile(**keras.saving.deserialize_keras_object(config, safe_mode=True))
    if held["not_decayed"]:
        _inner_optimizer(model).exclude_from_weight_decay([model.weights[place] for place in held["not_decayed"]])
    model.optimizer.build([model.weights[place] for place in held["updated"]])
    model.load_weights(path)


def _inner_optimizer(model: Any) -> Any:
    """Return the optimizer, without the wrapper that scales the loss; None if there is none."""
    optimizer = getattr(model, "optimizer", None)
    return getattr(optimizer, "inner_optimizer", optimizer)


def _full_state(model: Any) -> dict[str, Any]:
    """Return the state that Keras stores only for some layers, losses and metrics."""
    return {
        "trainable": [bool(layer.trainable) for layer in model._flatten_layers()],  # noqa: SLF001
        "frozen": _frozen_weights(model),
        "variables": [variable.numpy().tolist() for variable in _hidden_variables(model)],
        "compiled": [_settings(part) for part in _compiled_parts(model)],
    }


def _set_state(model: Any, state: Mapping[str, Any]) -> None:
    """Set the state that the file of a model does not contain."""
    if "trainable" in state:
        _set_trainable_flags(model, state["trainable"])
    for place in state.get("frozen", ()):
        model.weights[place].trainable = False
    for variable, held in zip(_hidden_variables(model), state.get("variables", ()), strict=False):
        variable.assign(held)
    for part, settings in zip(_compiled_parts(model), state.get("compiled", ()), strict=False):
        vars(part).update(settings)
    for layer, attributes in zip(model._flatten_layers(), state.get("attributes", ()), strict=False):  # noqa: SLF001
        for name, held in attributes.items():
            setattr(layer, name, held)


def _hidden_variables(model: Any) -> list[Any]:
    """Return the variables of all layers that are not weights: states of random numbers and of stateful layers."""
    import keras

    weights = set(map(id, model.weights))
    attributes = chain.from_iterable(vars(layer).values() for layer in model._flatten_layers())  # noqa: SLF001
    held = chain.from_iterable(item if isinstance(item, list | tuple) else [item] for item in attributes)
    found = [item.state if isinstance(item, keras.random.SeedGenerator) else item for item in held]
    hidden = {id(each): each for each in found if isinstance(each, keras.Variable) and id(each) not in weights}
    return [*hidden.values()]


def _lost_attributes(model: Any, loaded: Any) -> list[dict[str, Any]]:
    """Return the attributes set on each layer that its file lost; raise `SaveRefused` if one is no plain value."""
    import numpy as np

    lost: list[dict[str, Any]] = []
    for layer, other in zip(model._flatten_layers(), loaded._flatten_layers(), strict=False):  # noqa: SLF001
        found = vars(other)
        public = {name: value for name, value in vars(layer).items() if not name.startswith("_")}
        same = {name for name, value in public.items() if _is_same(value, found.get(name, _MISSING))}
        # What depends on an argument of an own class's __init__ would be lost: `_check_settings` refuses it.
        for name in _NOTES.union(same, _settings(layer) if _is_own(layer) else ()):
            public.pop(name, None)
        for name, value in public.items():
            if not (_is_plain(value) or type(value) is np.ndarray):
                where = f"{layer.name}.{name}, of type {type_name(type(value))}"
                raise SaveRefused(
                    f"Keras does not keep the attribute {where}. Delete it, and return it as another output. {_WAY_OUT}"
                )
        lost.append({name: _plain(value) for name, value in public.items()})
    return lost if any(lost) else []


def _is_same(one: Any, other: Any) -> bool:
    """Whether two attributes are equal; objects that are neither plain values nor arrays are not compared."""
    import numpy as np

    if type(one) is np.ndarray:
        return type(other) is np.ndarray and one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other) if _is_plain(one) else other is not _MISSING


def _compiled_parts(model: Any) -> list[Any]:
    """Return the losses and metrics that `compile` was given as objects."""
    import keras

    loss, metrics = (getattr(model, name, None) for name in ("_compile_loss", "_compile_metrics"))
    held = [getattr(metrics, name, None) for name in ("_user_metrics", "_user_weighted_metrics")]
    flat = keras.tree.flatten([getattr(loss, "_user_loss", None), *held])
    return [part for part in flat if isinstance(part, keras.losses.Loss | keras.metrics.Metric)]


def _settings(part: Any) -> dict[str, Any]:
    """Return the numbers and texts among the arguments of a layer, loss or metric, as its attributes."""
    import keras

    # Only arguments of __init__ are settings; Keras also notes progress there, such as whether training was stopped.
    own = signature(type(part).__init__).parameters.keys() - signature(keras.layers.Layer.__init__).parameters.keys()
    names = sorted((own | {"_fn_kwargs"}) & vars(part).keys())
    return {name: _plain(vars(part)[name]) for name in names if _is_plain(vars(part)[name])}


def _is_plain(value: Any) -> bool:
    if type(value) is tuple or isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    return type(value) in (bool, int, float, str, type(None))


def _plain(value: Any) -> Any:
    """Return a value in Python's own containers, which Keras wraps to track them."""
    if isinstance(value, list | tuple):
        return (tuple if isinstance(value, tuple) else list)(map(_plain, value))
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _check_weights(model: Any, loaded: Any) -> None:
    """Raise `SaveRefused` if the class or a weight was lost, which may happen with custom layers."""
    if type(loaded) is not type(model) or not _are_equal(model.weights, loaded.weights):
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with all its weights. Give its layers get_config(), with all "
            "arguments of __init__, and build(), register them with keras.saving.register_keras_serializable, and let them "
            f"save and load all their variables. {_WAY_OUT}"
        )


def _are_equal(variables: list[Any], others: list[Any]) -> bool:
    import numpy as np

    pairs = zip(variables, others, strict=False)
    equal = (np.array_equal(one.numpy(), other.numpy(), equal_nan=True) for one, other in pairs)
    return len(variables) == len(others) and all(equal)


def _set_trainable_flags(model: Any, flags: list[bool]) -> None:
    """Set the flags from the outside in: setting the flag of a layer sets it on the layers inside."""
    for layer, flag in zip(model._flatten_layers(), flags, strict=False):  # noqa: SLF001
        if bool(layer.trainable) != flag:
            layer.trainable = flag


def _check_settings(model: Any, loaded: Any) -> None:
    """Raise `SaveRefused` if a layer, loss, metric or optimizer lost a setting, or other weights are trainable."""
    layers = zip(model._flatten_layers(), loaded._flatten_layers(), strict=False)  # noqa: SLF001
    own = [(one, other) for one, other in layers if _is_own(one)]
    compiled = [*zip(_compiled_parts(model), _compiled_parts(loaded), strict=False), *_optimizers(model, loaded)]
    lost = [f"{one.name}.{name}" for one, other in [*own, *compiled] for name in _changed_settings(one, other)]
    lost += _lost_variables(model, loaded)
    states = [(_full_state(each), _optimizer_state(each)) for each in (model, loaded)]
    if lost or states[0] != states[1]:
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with {', '.join(lost[:5]) or 'the same parts frozen'}. If the class "
            f"is yours, return all arguments of __init__ from get_config(), and set them in __init__. {_WAY_OUT}"
        )


def _is_own(layer: Any) -> bool:
    return type(layer).__module__.partition(".")[0] not in ("keras", "tensorflow")


def _optimizers(model: Any, loaded: Any) -> list[tuple[Any, Any]]:
    held = [getattr(each, "optimizer", None) for each in (model, loaded)]
    return [] if held[0] is None else [(held[0], held[1])]


def _lost_variables(model: Any, loaded: Any) -> list[str]:
    """Return the optimizer's name if it is built and was loaded with other variables."""
    return [
        f"the variables of {one.name}"
        for one, other in _optimizers(model, loaded)
        if one.built and not _are_equal(one.variables, getattr(other, "variables", []))
    ]


def _changed_settings(one: Any, other: Any) -> list[str]:
    if type(one) is not type(other):
        return ["__class__"]
    dtypes = [getattr(each, "dtype", None) for each in (one, other)]
    found = _settings(other)
    changed = [name for name, value in _settings(one).items() if found.get(name, _MISSING) != value]
    return changed + (["dtype"] if dtypes[0] != dtypes[1] else [])


def _write_reproducible_file(source: Path, target: Path) -> None:
    """Copy a Keras file without the time of writing; number shared objects instead of their memory addresses."""
    numbers: dict[bytes, int] = {}
    with ZipFile(source) as dated, ZipFile(target, "w", ZIP_STORED) as undated:
        for name in sorted(dated.namelist()):
            content = dated.read(name)
            if name == "metadata.json":
                kept = {
                    key: item for key, item in json.loads(content).items() if key not in ("date_saved", "keras_version")
                }
                content = json.dumps(kept).encode()
            elif name == "config.json":
                content = _SHARED_OBJECT_ID.sub(
                    lambda found: b'"shared_object_id": %d' % numbers.setdefault(found[1], len(numbers)), content
                )
            undated.writestr(ZipInfo(name), content)
