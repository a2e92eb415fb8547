"""Promises of the large libraries' materializers: what their own files lose is kept, or refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.mlflow_model import MLflowModel
from airflow_zen.materializers.registry import default_registry
from tests.materializers.ml_values import ROWS
from tests.materializers.views.loading import load, open_stack

pytestmark = pytest.mark.ml

REGISTRY = default_registry()


def make(name: str, directory: Path) -> Any:
    ROWS[name].skip_if_absent()
    return ROWS[name].make(directory)


def round_trip(value: Any, directory: Path) -> Any:
    directory.mkdir(exist_ok=True)
    return REGISTRY.load(directory, REGISTRY.save(value, directory).encoding)


def test_dataset_without_rows_comes_back(tmp_path: Path) -> None:
    """A dataset without rows is kept with its features, alone or as a split."""
    data = make("hugging face dataset", tmp_path)
    import datasets

    for at, empty in enumerate((data.select([]), datasets.Dataset.from_dict({"a": []}), data.filter(lambda _: False))):
        loaded = round_trip(empty, tmp_path / str(at))
        assert (loaded.num_rows, loaded.features, loaded.split) == (0, empty.features, empty.split)
    splits = round_trip(datasets.DatasetDict({"train": data, "test": data.select([])}), tmp_path / "splits")
    assert {name: held.num_rows for name, held in splits.items()} == {"train": 3, "test": 0}


def test_files_written_beside_a_dataset_are_not_in_the_store(tmp_path: Path) -> None:
    """`map` writes its result beside the files of the dataset, alone or in a dict, but not into the store."""
    data = make("hugging face dataset", tmp_path)
    root = tmp_path / "root"
    stack = open_stack(str(root), {})
    for ref, of in ((stack.save(data).ref, lambda v: v), (stack.save({"d": data, "n": 1}).ref, lambda v: v["d"])):
        before = sorted(root.rglob("*"))
        loaded = of(load(stack, ref, None))
        assert loaded.map(lambda row: {"n": row["n"] + 1})["n"] == [2, 3, 4]
        assert sorted(root.rglob("*")) == before
    assert load(stack, ref, None)["d"]["n"] == [1, 2, 3]


def test_mlflow_model_is_passed_on(tmp_path: Path) -> None:
    """A step that returns the model it received makes the same artifact, and gets no path inside the store."""
    theirs = tmp_path / "model"
    theirs.mkdir()
    (theirs / "MLmodel").write_text("flavors: {}\n")
    stack = open_stack(str(tmp_path / "root"), {})
    ref = stack.save(MLflowModel(theirs)).ref
    within = stack.save({"model": MLflowModel(theirs)}).ref
    for loaded in (load(stack, ref, MLflowModel), load(stack, within, None)["model"]):
        assert [path.name for path in loaded.path.iterdir()] == ["MLmodel"]
        assert not loaded.path.is_relative_to(tmp_path / "root")
        assert stack.save(loaded).ref.digest == ref.digest


def test_own_modules_name_their_code(tmp_path: Path) -> None:
    """The ref of a module names the project's classes in it, which are in the key of a step that reads it."""
    module = make("own module with tied weights", tmp_path)
    stack = open_stack(str(tmp_path / "root"), {})
    assert stack.save({"net": module}).ref.code == (f"tests.materializers.torch_modules:{type(module).__name__}",)
    assert stack.save(make("trained module", tmp_path)).ref.code == ()


def test_converted_model_computes_the_same(tmp_path: Path) -> None:
    """Buffers that are no weights are kept as they are in a model that was converted to another dtype."""
    make("bert", tmp_path)
    import torch
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    loaded = round_trip(model, tmp_path / "model")
    tokens = torch.arange(30).repeat(1, 3)
    assert torch.equal(model(tokens).logits, loaded(tokens).logits)
    kept = {name: held.dtype for name, held in model.named_buffers()}
    assert {name: held.dtype for name, held in loaded.named_buffers()} == kept


def test_change_outside_the_configuration_is_refused(tmp_path: Path) -> None:
    """A replaced layer, a changed rate and a hook are refused, because they would be lost."""
    make("bert", tmp_path)
    import torch

    changes = {
        "replaced layer": lambda m: setattr(m.encoder.layer[0].intermediate, "intermediate_act_fn", torch.nn.ReLU()),
        "rate": lambda m: setattr(m.embeddings.dropout, "p", 0.9),
        "hook": lambda m: m.pooler.register_forward_hook(lambda *_: None),
    }
    for name, change in changes.items():
        model = make("bert", tmp_path)
        change(model)
        (tmp_path / name).mkdir()
        with pytest.raises(SaveRefused, match=r"which comes back as|has hooks, in pooler"):
            REGISTRY.save(model, tmp_path / name)


def test_attention_and_tokenizer_options_come_back(tmp_path: Path) -> None:
    """Options that were set on a model or a tokenizer after it was made are kept."""
    model, tokenizer = make("bert", tmp_path), make("tokenizer", tmp_path)
    model.set_attn_implementation("eager")
    assert round_trip(model, tmp_path / "model").config._attn_implementation == "eager"
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    loaded = round_trip(tokenizer, tmp_path / "tokenizer")
    assert (loaded.padding_side, loaded.truncation_side) == ("left", "left")
    assert loaded(["a", "a cat"], padding=True).input_ids == tokenizer(["a", "a cat"], padding=True).input_ids


def test_frozen_keras_layers_stay_frozen(tmp_path: Path) -> None:
    """The model as a whole, and each layer, are trainable as they were."""
    model = make("functional keras model", tmp_path)
    model.layers[-1].trainable = False
    assert round_trip(model, tmp_path / "layer").trainable_weights == []
    model = make("trained keras model", tmp_path)
    import keras

    model = keras.models.clone_model(model)
    model.trainable = False
    loaded = round_trip(model, tmp_path / "whole")
    assert [layer.trainable for layer in loaded._flatten_layers()] == [
        layer.trainable for layer in model._flatten_layers()
    ]
    assert not loaded.trainable


def test_settings_of_own_keras_layers_are_kept_or_refused(tmp_path: Path) -> None:
    """An own layer without a setting in its `get_config` is refused, and the error names the setting."""
    make("trained keras model", tmp_path)
    import keras

    @keras.saving.register_keras_serializable("zen_exact")
    class Scaled(keras.layers.Layer):
        def __init__(self, scale: float = 1.0, **options: Any) -> None:
            super().__init__(**options)
            self.scale = scale

        def call(self, x: Any) -> Any:
            return x * self.scale

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), **({"scale": self.scale} if self.in_config else {})}

        in_config = True

    for in_config in (True, False):
        Scaled.in_config = in_config
        model = keras.Sequential([keras.Input((3,)), Scaled(5.0, name="times"), keras.layers.Dense(1)])
        (tmp_path / str(in_config)).mkdir()
        if in_config:
            loaded = round_trip(model, tmp_path / str(in_config))
            x = np.ones((2, 3), "f4")
            np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
        else:
            with pytest.raises(SaveRefused, match=r"times\.scale.*get_config"):
                REGISTRY.save(model, tmp_path / str(in_config))


def test_keras_models_name_their_code(tmp_path: Path) -> None:
    """The ref of a Keras model names the project's layers and functions in its file."""
    make("trained keras model", tmp_path)
    import keras

    keras.saving.register_keras_serializable("zen_exact")(own_activation)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation=own_activation)])
    assert REGISTRY.save(model, tmp_path).summary["code"] == [f"{__name__}:own_activation"]


def own_activation(x: Any) -> Any:
    return x * 2


def test_keras_model_that_was_stopped_early_is_kept(tmp_path: Path) -> None:
    """What Keras notes on an own class during training is no setting that must come back."""
    make("trained keras model", tmp_path)
    import keras

    @keras.saving.register_keras_serializable("zen_exact")
    class Own(keras.Model):
        def __init__(self, width: int = 2, **options: Any) -> None:
            super().__init__(**options)
            self.width = width
            self.inner = keras.layers.Dense(width)

        def call(self, x: Any) -> Any:
            return self.inner(x)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "width": self.width}

    model, x = Own(3), np.ones((4, 3), "f4")
    model.compile("adam", "mse")
    stop = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=0)
    model.fit(x, x, epochs=3, verbose=0, callbacks=[stop])
    assert model.stop_training
    loaded = round_trip(model, tmp_path / "own")
    assert loaded.width == 3
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


_KERAS = """
import sys
from pathlib import Path
import keras
from airflow_zen.materializers.registry import default_registry
keep = [object() for _ in range(int(sys.argv[2]))]
keras.utils.set_random_seed(1)
layers = [keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]
default_registry().save(keras.Sequential(layers, name="m"), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("name", ["catboost regressor", "catboost classifier"])
def test_catboost_model_trained_again_has_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Two trainings that end in equal models give equal bytes, and so does a model that was loaded."""
    trained = [make(name, tmp_path), make(name, tmp_path)]
    written = []
    for number, model in enumerate((*trained, round_trip(trained[0], tmp_path / "first"))):
        directory = tmp_path / str(number)
        directory.mkdir()
        REGISTRY.save(model, directory)
        written.append({path.name: path.read_bytes() for path in directory.iterdir()})
    assert written[0] == written[1] == written[2]


def test_keras_model_is_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """The file of a Keras model contains no memory addresses of its objects."""
    make("trained keras model", tmp_path)
    files = []
    for count in ("1", "100000"):
        (tmp_path / count).mkdir()
        subprocess.run([sys.executable, "-c", _KERAS, str(tmp_path / count), count], check=True, capture_output=True)
        files.append((tmp_path / count / "data" / "model.keras").read_bytes())
    with ZipFile(tmp_path / "1" / "data" / "model.keras") as file:
        text = file.read("config.json").decode()
    assert json.loads(text)
    assert files[0] == files[1]
