"""Rows of the round-trip table for the large libraries, each imported where its value is made."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.materializers.path_values import LABELS, X, Y

# Set before the first import: nothing is fetched from a hub, and no notes on devices are printed.
os.environ |= {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Row:
    """A value, the library it needs, and whether that library writes a loaded value as the same bytes."""

    needs: str
    make: Callable[[Path], Any]
    writes_alike: bool = True

    def skip_if_absent(self) -> None:
        """Skip the calling test, with the command that installs the library."""
        if find_spec(self.needs) is None:
            pytest.skip(f"{self.needs} is not installed: make test-ml")


def _torch(make: Callable[[Any], Any]) -> Row:
    def made(_: Path) -> Any:
        import torch

        torch.manual_seed(0)
        return make(torch)

    return Row("torch", made)


def _module(name: str, *arguments: Any, **options: Any) -> Row:
    return _torch(lambda torch: getattr(torch.nn, name)(*arguments, **options))


def _own_module(torch: Any) -> Any:
    from tests.materializers.torch_modules import Tied

    return Tied()


def _trained(torch: Any) -> Any:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        loss = ((model(torch.tensor(X.to_numpy(dtype="f4"))) - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def _sharing(tensor: Any) -> Any:
    return {"a": tensor, "b": tensor, "c": tensor[1:]}


def _conjugated(torch: Any) -> Any:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    return {"a": tensor, "b": tensor.conj()}


def _frozen(torch: Any) -> Any:
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    return model


TORCH: dict[str, Row] = {
    "tensor": _torch(lambda torch: torch.arange(6).reshape(2, 3)),
    "0-d tensor": _torch(lambda torch: torch.tensor(3.5)),
    "empty tensor": _torch(lambda torch: torch.empty(0, 3)),
    "bfloat16 tensor": _torch(lambda torch: torch.randn(3).bfloat16()),
    "float8 tensor": _torch(lambda torch: torch.randn(3).to(torch.float8_e4m3fn)),
    "complex64 tensor": _torch(lambda torch: torch.randn(2, dtype=torch.complex64)),
    "complex128 tensor": _torch(lambda torch: torch.randn(2, dtype=torch.complex128)),
    "bool tensor": _torch(lambda torch: torch.tensor([True, False])),
    "tensor of nan": _torch(lambda torch: torch.tensor([float("nan"), -0.0])),
    "transposed tensor": _torch(lambda torch: torch.randn(2, 3).t()),
    "channels-last tensor": _torch(lambda torch: torch.randn(1, 2, 3, 4).to(memory_format=torch.channels_last)),
    "strided tensor": _torch(lambda torch: torch.randn(4, 4)[:, ::2]),
    "expanded tensor": _torch(lambda torch: torch.randn(2).expand(3, 2)),
    "tensor that requires grad": _torch(lambda torch: torch.ones(2, requires_grad=True)),
    "parameter": _torch(lambda torch: torch.nn.Parameter(torch.ones(2), requires_grad=False)),
    "tensors in a dataclass": _torch(lambda torch: [{"x": torch.ones(2), "epoch": 3}, (torch.zeros(1),)]),
    "state dict": _torch(lambda torch: torch.nn.LSTM(2, 3).state_dict()),
    "checkpoint": _torch(lambda torch: {"model": _trained(torch).state_dict(), "epoch": 3}),
    "dict of tensors that share": _torch(lambda torch: _sharing(torch.ones(3))),
    "dict of tensors and their conjugates": _torch(_conjugated),
    "linear module": _module("Linear", 2, 3),
    "trained module": _torch(_trained),
    "frozen module": _torch(_frozen),
    "half module": _torch(lambda torch: torch.nn.Linear(2, 2).half()),
    "lstm module": _module("LSTM", 3, 4, 2),
    "transformer layer": _module("TransformerEncoderLayer", 4, 2, 8),
    "attention": _module("MultiheadAttention", 4, 2),
    "channels-last convolution": _torch(lambda torch: torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)),
    "modules in a dict": _torch(lambda torch: {"encoder": torch.nn.Linear(1, 2), "loss": torch.nn.CrossEntropyLoss()}),
    "module list": _torch(lambda torch: torch.nn.ModuleList([torch.nn.PReLU(), torch.nn.Dropout(0.3).eval()])),
    "own module with tied weights": _torch(_own_module),
}


@functools.cache
def _keras_model() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers, name="small")
    model.compile("adam", "mse")
    model.fit(X.to_numpy(), Y.to_numpy(), epochs=1, verbose=0)
    return model


def _keras_functional(_: Path) -> Any:
    import keras

    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    return keras.Model([left, right], keras.layers.Dense(1)(joined), name="two_inputs")


def _tf_dataset(_: Path) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(({"a": np.arange(5), "b": list("vwxyz")}, np.zeros((5, 2), "f4")))


KERAS: dict[str, Row] = {
    # Keras writes settings as they were passed, reads them as float32, and renames what it reads.
    "trained keras model": Row("keras", lambda _: _keras_model(), writes_alike=False),
    "functional keras model": Row("keras", _keras_functional, writes_alike=False),
    "tf dataset": Row("tensorflow", _tf_dataset),
    "batched tf dataset": Row("tensorflow", lambda path: _tf_dataset(path).batch(2)),
    "tf dataset of ranges": Row("tensorflow", lambda _: __import__("tensorflow").data.Dataset.range(3)),
    "tf dataset from a generator": Row("tensorflow", lambda _: _generated()),
    "empty tf dataset": Row("tensorflow", lambda path: _tf_dataset(path).take(0)),
}


def _generated() -> Any:
    import tensorflow as tf

    spec = tf.TensorSpec((None,), tf.int32)
    return tf.data.Dataset.from_generator(lambda: iter([[1], [2, 3]]), output_signature=spec)


def _bert(kind: str) -> Row:
    def made(_: Path) -> Any:
        import torch
        import transformers

        torch.manual_seed(0)
        sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.BertConfig(**sizes, intermediate_size=8, max_position_embeddings=16)
        return getattr(transformers, kind)(config)

    return Row("transformers", made)


def _partly_frozen(path: Path) -> Any:
    model = _bert("BertForSequenceClassification").make(path)
    model.bert.requires_grad_(False)
    return model.half().eval()


def _partly_evaluating(path: Path) -> Any:
    model = _bert("BertForSequenceClassification").make(path).train()
    model.bert.encoder.eval()
    return model


def _tokenizer(_: Path) -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "a": 2, "cat": 3}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="[UNK]", pad_token="[PAD]")


def _dataset(_: Path) -> Any:
    import datasets

    rows = {"text": ["x", "y", None], "n": [1, 2, 3], "v": [[0.5], [], [1.0, 2.0]], "label": [0, 1, 1]}
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "n": datasets.Value("int32"),
            "v": datasets.Sequence(datasets.Value("float32")),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    return datasets.Dataset.from_dict(rows, features=features, split="train")


def _splits(path: Path) -> Any:
    import datasets

    return datasets.DatasetDict({"train": _dataset(path), "test": _dataset(path).select([1])})


HUGGING_FACE: dict[str, Row] = {
    "bert": _bert("BertModel"),
    "bert with tied weights": _bert("BertForMaskedLM"),
    "bert for classification": _bert("BertForSequenceClassification"),
    "partly frozen half bert": Row("transformers", _partly_frozen),
    "partly evaluating bert": Row("transformers", _partly_evaluating),
    "tokenizer": Row("transformers", _tokenizer),
    "model and tokenizer": Row(
        "transformers", lambda path: {"model": _bert("BertModel").make(path), "tokenizer": _tokenizer(path)}
    ),
    "hugging face dataset": Row("datasets", _dataset),
    "dataset with an index over its rows": Row("datasets", lambda path: _dataset(path).select([2, 0])),
    "dataset in numpy format": Row("datasets", lambda path: _dataset(path).with_format("numpy", columns=["n"])),
    "dataset splits": Row("datasets", _splits),
}


def _catboost(name: str, y: Any, **options: Any) -> Row:
    def made(_: Path) -> Any:
        import catboost

        quiet = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
        options_of_it = {"iterations": 3, "depth": 2, "random_seed": 0, **quiet, **options}
        model = catboost.CatBoost(options_of_it) if name == "CatBoost" else getattr(catboost, name)(**options_of_it)
        return model if y is None else model.fit(X, y)

    return Row("catboost", made)


CATBOOST: dict[str, Row] = {
    "catboost regressor": _catboost("CatBoostRegressor", Y),
    "catboost classifier": _catboost("CatBoostClassifier", LABELS),
    "catboost booster": _catboost("CatBoost", Y, loss_function="RMSE"),
    "unfitted catboost regressor": _catboost("CatBoostRegressor", None),
}


def _onnx(_: Path) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.eye(3, dtype="f4"), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "relu", floats[:1], floats[1:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


ONNX: dict[str, Row] = {
    "onnx model": Row("onnx", _onnx),
    "onnx model in a list": Row("onnx", lambda path: [_onnx(path)]),
}

ROWS: dict[str, Row] = {**TORCH, **KERAS, **HUGGING_FACE, **CATBOOST, **ONNX}
