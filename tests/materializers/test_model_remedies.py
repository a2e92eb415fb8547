"""What a refusal of an ONNX, CatBoost, PyTorch or Keras model says to do, done: the model is stored and computes the same."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import psutil
import pytest

from airflow_zen.errors import SaveRefused
from tests.materializers.remedies import REGISTRY, Remedy, library

pytestmark = [
    pytest.mark.ml,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]

X = np.linspace(-2, 2, 24, dtype="f4").reshape(8, 3)
Y = X[:, 0]


def _onnx_files() -> Any:
    """Return a model that was read without the file of its tensors, which is in the current folder."""
    onnx = library("onnx")
    weights = onnx.numpy_helper.from_array(np.ones((40, 40), "f4"), "w")
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 40]) for name in "xy"]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:], [weights]))
    onnx.save_model(model, "model.onnx", save_as_external_data=True, location="tensors")
    return onnx.load("model.onnx", load_external_data=False)


def test_remedy_of_onnx_tensors_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose tensors are in another file is stored, with them, after it is loaded as the refusal says."""
    onnx = library("onnx")
    monkeypatch.chdir(tmp_path)
    Remedy(
        _onnx_files,
        "Load it with load_external_data=True",
        lambda _: onnx.load("model.onnx", load_external_data=True),
        lambda loaded, _: np.array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), np.ones((40, 40))),
    ).show(tmp_path)


def _large_onnx() -> Any:
    """Return a model that protobuf does not write, because its weights have 2 GB."""
    onnx = library("onnx")
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, size]) for name, size in (("x", 1 << 19), ("y", 1 << 10))]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:]))
    weights = model.graph.initializer.add(name="w", data_type=1, dims=[1 << 19, 1 << 10])
    weights.raw_data = bytes(1 << 31)
    return model


@pytest.mark.slow
@pytest.mark.skipif(psutil.virtual_memory().available < 12 << 30, reason="needs 12 GB of memory")
def test_remedy_of_a_large_onnx_model_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls that the refusal of a model over 2 GB names write a folder that is stored, and read by onnx."""
    onnx, model = library("onnx"), _large_onnx()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifact").mkdir()
    with pytest.raises(SaveRefused) as refusal:
        REGISTRY.save(model, tmp_path / "artifact")
    first, then, path = re.findall(
        r"Call (\S+), (onnx\.save_model\(model, 'model/model\.onnx', save_as_external_data=True\)) and return (.+)\.$",
        str(refusal.value),
    )[0]
    names = {"pathlib": pathlib, "onnx": onnx, "model": model}
    for call in (first, then):
        exec(call, names)
    del model, names["model"]
    saved = REGISTRY.save(eval(path, names), tmp_path / "artifact")
    loaded = onnx.load(REGISTRY.load(tmp_path / "artifact", saved.encoding) / "model.onnx")
    assert len(loaded.graph.initializer[0].raw_data) == 1 << 31


class _Halved:
    """An objective of the project's own: half the squared error."""

    def calc_ders_range(self, approxes: Any, targets: Any, weights: Any) -> Any:
        return [(target - approx, -1.0) for approx, target in zip(approxes, targets, strict=True)]


class _Error:
    """A metric of the project's own."""

    def is_max_optimal(self) -> bool:
        return False

    def evaluate(self, approxes: Any, targets: Any, weights: Any) -> Any:
        return sum(abs(approx - target) for approx, target in zip(approxes[0], targets, strict=True)), len(targets)

    def get_final_error(self, error: float, weight: float) -> float:
        return error / weight


def _catboost(cls: str = "CatBoostRegressor", **options: Any) -> Any:
    catboost = library("catboost")
    made = {"iterations": 3, "thread_count": 1, "allow_writing_files": False, "verbose": 0, **options}
    return getattr(catboost, cls)(**made).fit(X, Y)


def _catboost_subclass() -> Any:
    return type("Own", (library("catboost").CatBoostRegressor,), {})(**_catboost().get_params()).fit(X, Y)


def _catboost_file(model: Any) -> Path:
    model.save_model("model.cbm")
    return Path("model.cbm")


def _reads_catboost(path: Path, refused: Any) -> bool:
    model = library("catboost").CatBoost().load_model(str(path))
    return np.array_equal(model.predict(X), refused.predict(X))


_CBM = "Call model.save_model('model.cbm') and return pathlib.Path('model.cbm')"

CATBOOST: dict[str, Remedy] = {
    "own objective": Remedy(
        lambda: _catboost(loss_function=_Halved(), eval_metric="RMSE"), _CBM, _catboost_file, _reads_catboost
    ),
    "own metric": Remedy(lambda: _catboost(eval_metric=_Error()), _CBM, _catboost_file, _reads_catboost),
    "own metric, by a name of CatBoost's": Remedy(
        lambda: _catboost(eval_metric=_Error()),
        "Use one that CatBoost has a name for",
        lambda _: _catboost(eval_metric="MAE"),
        lambda loaded, refused: np.array_equal(loaded.predict(X), refused.predict(X)),
    ),
    "subclass": Remedy(
        _catboost_subclass,
        "would come back as catboost.CatBoostRegressor. Return an instance of that class",
        lambda refused: _catboost(**refused.get_params()),
        lambda loaded, refused: np.array_equal(loaded.predict(X), refused.predict(X)),
    ),
}


@pytest.mark.parametrize("name", CATBOOST)
def test_remedy_of_catboost_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused model of CatBoost, changed or written as the refusal says, predicts the same."""
    library("catboost")
    if find_spec("numba"):
        # CatBoost compiles own objectives with numba, which refuses this one.
        monkeypatch.setattr("numba.core.config.DISABLE_JIT", 1)
    monkeypatch.chdir(tmp_path)
    CATBOOST[name].show(tmp_path)


def _module(**attributes: Any) -> Any:
    library("torch")
    from tests.materializers.torch_modules import Configured

    model = Configured()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def _own(name: str) -> Any:
    library("torch")
    from tests.materializers import torch_modules

    return getattr(torch_modules, name)


def _noted_partial() -> Any:
    noted = partial(library("torch").nn.functional.softplus, beta=2)
    noted.note = "mine"  # type: ignore[attr-defined]
    return noted


def _state_alike(loaded: Any, refused: Any) -> bool:
    expected = refused.state_dict()
    return list(loaded) == list(expected) and all((loaded[key] == expected[key]).all() for key in expected)


def _module_alike(loaded: Any, refused: Any) -> bool:
    return _state_alike(loaded.state_dict(), refused)


_STATE = "Or return module.state_dict()"

TORCH: dict[str, Remedy] = {
    "function of elsewhere": Remedy(
        lambda: _module(function=json.dumps), _STATE, lambda model: model.state_dict(), _state_alike
    ),
    "function of elsewhere, by one of the file": Remedy(
        lambda: _module(function=json.dumps),
        "Define it at the top level of the file that defines the module",
        lambda model: _with_state(_module(function=_own("double")), model),
        lambda loaded, refused: _module_alike(loaded, refused) and loaded.function is _own("double"),
    ),
    "lambda, by a method": Remedy(
        lambda: _module(function=lambda x: x * 2),
        "make it a method",
        lambda model: _with_method(_with_state(_module(), model)),
        lambda loaded, refused: _module_alike(loaded, refused) and loaded.function.__self__ is loaded,
    ),
    "lambda, by a function of torch": Remedy(
        lambda: _module(function=lambda x: x.clamp(min=0)),
        "use one of torch.nn.functional",
        lambda model: _with_state(_module(function=library("torch").nn.functional.relu), model),
        lambda loaded, refused: (
            _module_alike(loaded, refused) and loaded.function is library("torch").nn.functional.relu
        ),
    ),
    "method of another object": Remedy(
        lambda: _module(function=json.JSONEncoder().encode),
        "it is no method of a module's class. Make it one",
        lambda model: _with_method(_with_state(_module(), model)),
        lambda loaded, refused: _module_alike(loaded, refused) and loaded.function.__self__ is loaded,
    ),
    "method without a name": Remedy(
        lambda: _module(function=MethodType(json.JSONEncoder, _module())),
        "it is no method of a module's class. Make it one",
        lambda model: _with_method(_with_state(_module(), model)),
        _module_alike,
    ),
    "partial with attributes, by a module": Remedy(
        lambda: _module(function=_noted_partial()),
        "it has attributes of its own. Make it a module, or a method",
        lambda model: _with_state(_module(function=library("torch").nn.Softplus(beta=2)), model),
        lambda loaded, refused: _module_alike(loaded, refused) and loaded.function.beta == 2,
    ),
    "partial with attributes, by a method": Remedy(
        lambda: _module(function=_noted_partial()),
        "it has attributes of its own. Make it a module, or a method",
        lambda model: _with_method(_with_state(_module(), model)),
        lambda loaded, refused: _module_alike(loaded, refused) and loaded.function.__self__ is loaded,
    ),
    "state that is no dict": Remedy(
        lambda: _own("Packed")(2, 1),
        "The state that __getstate__ returns is no dict. Return module.state_dict()",
        lambda model: model.state_dict(),
        _state_alike,
    ),
    "method of another callable": Remedy(
        lambda: _module(function=MethodType(re.compile("a").sub, _module())),
        "it is no method of a module's class. Make it one",
        lambda model: _with_method(_with_state(_module(), model)),
        _module_alike,
    ),
}


def _with_state(model: Any, refused: Any) -> Any:
    model.load_state_dict(refused.state_dict())
    return model


def _with_method(model: Any) -> Any:
    model.function = model.scale
    return model


@pytest.mark.parametrize("name", TORCH)
def test_remedy_of_a_module_works(name: str, tmp_path: Path) -> None:
    """A refused module, changed as the refusal says or as its state, has the same weights."""
    TORCH[name].show(tmp_path)


def _keras(layer: str, **options: Any) -> Any:
    keras = library("keras")
    from tests.materializers import keras_layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), getattr(keras_layers, layer)(**options)])
    model.compile("sgd", "mse")
    model.fit(X, X, verbose=0)
    return model


def _keras_file(model: Any) -> Path:
    model.save_weights("model.weights.h5")
    return Path("model.weights.h5")


def _reads_weights(make: Callable[[], Any]) -> Callable[[Any, Any], bool]:
    def check(path: Path, refused: Any) -> bool:
        model = make()
        model.load_weights(path)
        return np.array_equal(model.predict(X, verbose=0), refused.predict(X, verbose=0))

    return check


def _predicts(loaded: Any, refused: Any) -> bool:
    return np.array_equal(loaded.predict(X, verbose=0), refused.predict(X, verbose=0))


_LAYERS = "Give its layers get_config(), with all arguments of __init__, and build()"

KERAS: dict[str, Remedy] = {
    "layer that forgets its layers": Remedy(
        lambda: _keras("ForgetfulStack", count=2), _LAYERS, lambda _: _keras("WholeStack", count=2), _predicts
    ),
    "layer that forgets its layers, its weights": Remedy(
        lambda: _keras("ForgetfulStack", count=2),
        "model.save_weights('model.weights.h5') and return pathlib.Path('model.weights.h5')",
        _keras_file,
        _reads_weights(lambda: _keras("ForgetfulStack", count=2)),
    ),
    "layer that does not save its weights": Remedy(
        lambda: _keras("Unsaved"),
        "and let them save and load all their variables",
        lambda _: _keras("Whole"),
        _predicts,
    ),
}


@pytest.mark.parametrize("name", KERAS)
def test_remedy_of_keras_layers_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused model with layers of one's own, changed as the refusal says or as its weights, computes the same."""
    library("keras")
    monkeypatch.chdir(tmp_path)
    KERAS[name].show(tmp_path)
