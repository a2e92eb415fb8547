"""What a refusal of the large libraries' values tells a user to do, done: the value is then stored, and comes back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from tests.materializers.remedies import Remedy, library

pytestmark = [
    pytest.mark.ml,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]

X, Y = np.linspace(-2, 2, 24, dtype="f4").reshape(8, 3), np.ones((8, 1), "f4")


class Pair(NamedTuple):
    x: Any
    y: Any


def _keras_model(*inner: Any, **compiled: Any) -> Any:
    keras = library("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), *inner, keras.layers.Dense(1)], name="small")
    model.compile(**{"optimizer": "adam", "loss": "mse", **compiled})
    model.fit(X, Y, epochs=1, verbose=0)
    return model


def _own(name: str) -> Any:
    library("keras")
    from tests.materializers import keras_layers

    return getattr(keras_layers, name)


def _with_encoder(encoder: Any) -> Any:
    model = _keras_model()
    model.encoder = encoder
    return model


def _encoder_beside(model: Any) -> Any:
    encoder = model.encoder
    del model.encoder
    return {"model": model, "encoder": encoder}


def _weights_file(model: Any) -> Path:
    model.save_weights("model.weights.h5")
    return Path("model.weights.h5")


def _predicts_alike(loaded: Any, refused: Any) -> bool:
    return np.array_equal(loaded.predict(X, verbose=0), refused.predict(X, verbose=0))


def _weights_alike(make: Callable[[], Any]) -> Callable[[Any, Any], bool]:
    """Compare a model that is made again, and reads the loaded file of weights, with the refused model."""

    def check(path: Path, refused: Any) -> bool:
        model = make()
        model.load_weights(path)
        return _predicts_alike(model, refused)

    return check


def _lambda() -> Any:
    return _keras_model(library("keras").layers.Lambda(lambda x: 2 * x))


def _quantized() -> Any:
    model = _keras_model()
    model.quantize("int8")
    return model


def _low_rank() -> Any:
    model = _keras_model()
    model.layers[0].enable_lora(2)
    return model


def _built_layer() -> Any:
    layer = library("keras").layers.Dense(2)
    layer.build((None, 3))
    return layer


def _robust() -> Any:
    return _keras_model(loss=library("keras").losses.Huber(0.3, name="robust", dtype="float64"))


_REGISTER = "Register your own classes and functions with @keras.saving.register_keras_serializable()"
_WEIGHTS = "model.save_weights('model.weights.h5') and return pathlib.Path('model.weights.h5')"
_CONFIG = "return all arguments of __init__ from get_config()"

KERAS: dict[str, Remedy] = {
    "unregistered layer": Remedy(
        lambda: _keras_model(_own("Unregistered")()),
        f"Could not locate class 'Unregistered'. {_REGISTER}",
        lambda _: _keras_model(_own("Doubled")()),
        _predicts_alike,
    ),
    "unregistered function": Remedy(
        lambda: _keras_model(loss=_own("loss")),
        f"Could not locate function 'loss'. {_REGISTER}",
        lambda _: _keras_model(loss=_own("registered_loss")),
        lambda loaded, refused: loaded.evaluate(X, Y, verbose=0) == refused.evaluate(X, Y, verbose=0),
    ),
    "lambda layer": Remedy(
        _lambda,
        "write lambdas as functions",
        lambda _: _keras_model(library("keras").layers.Lambda(_own("doubled"))),
        _predicts_alike,
    ),
    "lambda layer, its weights": Remedy(_lambda, _WEIGHTS, _weights_file, _weights_alike(_lambda)),
    "lambda as rate": Remedy(
        lambda: _keras_model(optimizer=library("keras").optimizers.Adam(lambda: 0.1)),
        _WEIGHTS,
        _weights_file,
        _weights_alike(_keras_model),
    ),
    "quantized": Remedy(_quantized, _WEIGHTS, _weights_file, _weights_alike(_quantized)),
    "layer of low rank": Remedy(_low_rank, _WEIGHTS, _weights_file, _weights_alike(_keras_model)),
    "layer that forgets its weights": Remedy(
        lambda: _keras_model(_own("Forgetful")(2)),
        _CONFIG,
        lambda _: _keras_model(_own("Whole")(2)),
        _predicts_alike,
    ),
    "layer set on a model": Remedy(
        lambda: _with_encoder(_built_layer()),
        _WEIGHTS,
        _weights_file,
        _weights_alike(lambda: _with_encoder(_built_layer())),
    ),
    "dtype of a loss": Remedy(_robust, _WEIGHTS, _weights_file, _weights_alike(_robust)),
    "table as attribute": Remedy(
        lambda: _with_encoder(pd.DataFrame({"code": [1, 2]})),
        "Delete it, and return it as another output",
        _encoder_beside,
        lambda loaded, refused: list(loaded["encoder"]["code"]) == [1, 2] and _predicts_alike(loaded["model"], refused),
    ),
    "object as attribute": Remedy(
        lambda: _with_encoder(object()), _WEIGHTS, _weights_file, _weights_alike(_keras_model)
    ),
}


@pytest.mark.parametrize("name", KERAS)
def test_remedy_of_keras_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused model of Keras, changed as the refusal says or written as its weights, computes the same."""
    library("keras")
    monkeypatch.chdir(tmp_path)
    KERAS[name].show(tmp_path)


def _tensors(value: Any) -> Any:
    return library("tensorflow").data.Dataset.from_tensor_slices(value)


def _ragged() -> Any:
    return _tensors(library("tensorflow").ragged.constant([[1], [2, 3]]))


def _saved(dataset: Any) -> Path:
    dataset.save("elements")
    return Path("elements")


def _reads_alike(path: Path, refused: Any) -> bool:
    loaded = library("tensorflow").data.Dataset.load(str(path))
    flat = library("tensorflow").nest.flatten
    return loaded.element_spec == refused.element_spec and str(list(map(flat, loaded))) == str(list(map(flat, refused)))


def _of_dtype(name: str) -> Any:
    tf = library("tensorflow")
    dtype = tf.as_dtype(name)
    return _tensors(
        tf.cast([1, 0], dtype) if name.startswith("q") else tf.constant(np.array([1, 0], dtype.as_numpy_dtype))
    )


_SAVE = "call dataset.save('elements') and return pathlib.Path('elements')"

TENSORFLOW: dict[str, Remedy] = {
    "infinite": Remedy(
        lambda: library("tensorflow").data.Dataset.range(3).repeat(),
        "no end to store. Return dataset.take(n)",
        lambda dataset: dataset.take(5),
        lambda loaded, _: [int(element) for element in loaded] == [0, 1, 2, 0, 1],
    ),
    "ragged, made dense": Remedy(
        _ragged,
        "Make it dense tensors",
        lambda dataset: dataset.map(lambda row: row.to_tensor() if hasattr(row, "to_tensor") else row).padded_batch(2),
        lambda loaded, _: next(iter(loaded)).numpy().tolist() == [[1, 0], [2, 3]],
    ),
    "ragged": Remedy(_ragged, _SAVE, _saved, _reads_alike),
    "sparse": Remedy(lambda: _tensors(library("tensorflow").sparse.eye(2)), _SAVE, _saved, _reads_alike),
    "ordered dict": Remedy(lambda: _tensors(OrderedDict(a=[1, 2])), _SAVE, _saved, _reads_alike),
    "named tuple": Remedy(lambda: _tensors(Pair([1, 2], [3, 4])), _SAVE, _saved, _reads_alike),
    "None": Remedy(lambda: _tensors([1, 2]).map(lambda x: (x, None)), _SAVE, _saved, _reads_alike),
    "windows": Remedy(
        lambda: library("tensorflow").data.Dataset.range(4).window(2),
        "dataset.flat_map(lambda window: window.batch(n))",
        lambda dataset: dataset.flat_map(lambda window: window.batch(2)),
        lambda loaded, _: [element.numpy().tolist() for element in loaded] == [[0, 1], [2, 3]],
    ),
    **{
        f"{dtype} converted": Remedy(
            lambda dtype=dtype: _of_dtype(dtype),
            f"serialize the {dtype} in an element of this tf.data.Dataset. Convert it with tf.cast",
            lambda dataset: dataset.map(lambda element: library("tensorflow").cast(element, "int32")),
            lambda loaded, _: [int(element) for element in loaded] == [1, 0],
        )
        for dtype in ("qint8", "quint16", "float8_e4m3fn")
    },
    **{
        dtype: Remedy(lambda dtype=dtype: _of_dtype(dtype), _SAVE, _saved, _reads_alike)
        for dtype in ("int4", "uint4", "int2", "qint8", "float8_e4m3fn")
    },
}


@pytest.mark.parametrize("name", TENSORFLOW)
def test_remedy_of_tensorflow_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused dataset of TensorFlow, changed as the refusal says or written by `save`, has the same elements."""
    library("tensorflow")
    monkeypatch.chdir(tmp_path)
    TENSORFLOW[name].show(tmp_path)


def _rows(**formatted: Any) -> Any:
    rows = library("datasets").Dataset.from_dict({"a": [1, 2], "text": ["x", "y"]})
    return rows.with_format(**formatted) if formatted else rows


def _transformed() -> Any:
    return _rows().with_transform(lambda batch: batch)


def _indexed() -> Any:
    from datasets.search import BaseIndex

    rows = _rows()
    rows._indexes["a"] = BaseIndex()
    return rows


def _without_index(rows: Any) -> Any:
    rows.drop_index("a")
    return rows


def _same_rows(loaded: Any, _: Any) -> bool:
    return loaded.to_list() == _rows().to_list()


def _splits(**splits: Any) -> Any:
    return library("datasets").DatasetDict(splits)


def _renamed(splits: Any) -> Any:
    return _splits(train=next(iter(splits.values())))


DATASETS: dict[str, Remedy] = {
    "function as format": Remedy(
        _transformed, "Return dataset.with_format(None)", lambda rows: rows.with_format(None), _same_rows
    ),
    "dtype in a format": Remedy(
        lambda: _rows(type="numpy", dtype=np.float32),
        "Return dataset.with_format(None)",
        lambda rows: rows.with_format(None),
        _same_rows,
    ),
    "function as format of a split": Remedy(
        lambda: _splits(test=_transformed()),
        "The split 'test' has the format 'custom' with transform, which is not JSON. Return dataset.with_format(None)",
        lambda splits: splits.with_format(None),
        lambda loaded, _: _same_rows(loaded["test"], _),
    ),
    "search index": Remedy(_indexed, "has the search index 'a'. Call drop_index", _without_index, _same_rows),
    "subclass": Remedy(
        lambda: type("Own", (library("datasets").Dataset,), {})(_rows().data),
        "would come back as datasets.arrow_dataset.Dataset. Return an instance of that class",
        lambda rows: library("datasets").Dataset(rows.data),
        _same_rows,
    ),
    "split that is read row by row": Remedy(
        lambda: _splits(train=_rows().to_iterable_dataset()),
        "datasets.Dataset.from_list(list(split))",
        lambda splits: _splits(train=library("datasets").Dataset.from_list(list(splits["train"]))),
        lambda loaded, _: _same_rows(loaded["train"], _),
    ),
    **{
        f"split named {name!r}": Remedy(
            lambda name=name: library("datasets").DatasetDict({name: _rows()}),
            "Use one such as 'train'",
            _renamed,
            lambda loaded, _: _same_rows(loaded["train"], _),
        )
        for name in ("", "..", "/tmp/train", 1)
    },
}


@pytest.mark.parametrize("name", DATASETS)
def test_remedy_of_datasets_works(name: str, tmp_path: Path) -> None:
    """A refused dataset of Hugging Face, changed as the refusal says, has the same rows."""
    library("datasets")
    DATASETS[name].show(tmp_path)
